//! Every error of the API, mapped to a status and a body in one place.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use picket_scheduler_core::reply::Reject;
use picket_storage::pg::PgError;
use picket_storage::pg::catalogue::ImportError;
use picket_wire::api::problem::Problem;

use crate::replica::{ProposeError, ReadError};

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No token, or one nobody issued.
    Unauthenticated,
    /// The token does not allow it.
    Forbidden {
        /// The scope that would.
        needs: &'static str,
    },
    /// No such thing.
    NotFound(String),
    /// The request breaks a rule.
    Invalid {
        /// Which part of it.
        field: String,
        /// What was expected.
        detail: String,
    },
    /// The present state does not allow it.
    Conflict(String),
    /// Try again later.
    Unavailable {
        /// Stable name.
        code: &'static str,
        /// What is away.
        detail: String,
    },
    /// Our own fault; the cause is in the log.
    Internal,
}

impl ApiError {
    /// A part of the request breaks a rule.
    pub(super) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            detail: detail.into(),
        }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: impl ToString) -> Self {
        Self::NotFound(what.to_string())
    }

    fn problem(self) -> Problem {
        let (status, code, title, detail, field) = match self {
            Self::Unauthenticated => (
                401,
                "unauthenticated",
                "a valid API token is needed",
                Some("send `Authorization: Bearer …`".to_owned()),
                None,
            ),
            Self::Forbidden { needs } => (
                403,
                "forbidden",
                "the token does not allow this",
                Some(format!("it needs the scope `{needs}`")),
                None,
            ),
            Self::NotFound(what) => (404, "not_found", "no such thing", Some(what), None),
            Self::Invalid { field, detail } => (
                422,
                "invalid",
                "the request breaks a rule",
                Some(detail),
                Some(field),
            ),
            Self::Conflict(detail) => (
                409,
                "conflict",
                "the present state does not allow this",
                Some(detail),
                None,
            ),
            Self::Unavailable { code, detail } => (
                503,
                code,
                "not available now; try again",
                Some(detail),
                None,
            ),
            Self::Internal => (
                500,
                "internal",
                "the scheduler failed; its log says why",
                None,
                None,
            ),
        };
        Problem {
            code: code.to_owned(),
            title: title.to_owned(),
            status,
            detail,
            field,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}

impl From<PgError> for ApiError {
    fn from(error: PgError) -> Self {
        let detail = picket_rt::chain(&error).to_string();
        if error.is_retryable() {
            tracing::warn!(error = detail, "postgres is away");
            let detail = "Postgres is away; watching, deciding and paging go on".to_owned();
            return Self::Unavailable {
                code: "postgres_away",
                detail,
            };
        }
        tracing::error!(error = detail, "postgres refused a statement");
        Self::Internal
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Pg(error) => error.into(),
            ImportError::Row { row, error } => {
                Self::invalid(format!("rows[{row}]"), error.to_string())
            }
            ImportError::Shards { .. } => Self::Conflict(error.to_string()),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        let detail = picket_rt::chain(&error).to_string();
        Self::Unavailable {
            code: "no_quorum",
            detail,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let detail = picket_rt::chain(&error).to_string();
        Self::Unavailable {
            code: "no_quorum",
            detail,
        }
    }
}

impl From<Reject> for ApiError {
    fn from(reject: Reject) -> Self {
        let text = reject.to_string();
        match reject {
            Reject::UnknownAgent(_)
            | Reject::UnknownGroup(_)
            | Reject::UnknownWebhook(_)
            | Reject::UnknownMaintenance(_)
            | Reject::UnknownApiToken(_) => Self::NotFound(text),
            Reject::Setting { setting, expected } => {
                Self::invalid(setting, format!("expected {expected}"))
            }
            Reject::TooMany { .. } => Self::invalid("request", text),
            _ => Self::Conflict(text),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::invalid("body", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid("query", rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid("path", rejection.body_text())
    }
}
