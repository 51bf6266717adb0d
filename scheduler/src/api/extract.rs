//! What every handler takes from a request: who asks, and values whose refusal is a problem.

use std::sync::Arc;

use axum::Json as AxumJson;
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Query as AxumQuery, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use picket_scheduler_core::state::Scope;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::api::problem::ApiError;
use crate::context::Context;

/// The scope of the bearer token of a request.
///
/// Tokens carry 256 random bits, so their plain SHA-256 is as hard to invert as to guess, and the
/// time a comparison of hashes takes tells nothing of use.
fn scope_of(parts: &Parts, ctx: &Context) -> Result<Scope, ApiError> {
    let secret = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(ApiError::Unauthenticated)?;
    let hash: [u8; 32] = Sha256::digest(secret.trim().as_bytes()).into();
    let scope = ctx.replica.read(|state| {
        state
            .api_tokens
            .values()
            .find(|token| token.hash == hash)
            .map(|token| token.scope)
    });
    scope.ok_or(ApiError::Unauthenticated)
}

macro_rules! caller {
    ($(#[$doc:meta])* $name:ident, $scope:expr, $needs:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name;

        impl FromRequestParts<Arc<Context>> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, ApiError> {
                if scope_of(parts, ctx)? >= $scope { Ok(Self) } else { Err(ApiError::Forbidden { needs: $needs }) }
            }
        }
    };
}

caller!(
    /// A caller who may look.
    Reader, Scope::Read, "read"
);
caller!(
    /// A caller who may change sites, maintenance and webhooks.
    Writer, Scope::Write, "write"
);
caller!(
    /// A caller who may change the mesh.
    Admin, Scope::Admin, "admin"
);

/// A JSON body; its refusal names what was wrong.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Context>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, ctx: &Arc<Context>) -> Result<Self, ApiError> {
        let AxumJson(value) = AxumJson::<T>::from_request(request, ctx).await?;
        Ok(Self(value))
    }
}

/// Path parameters; their refusal names what was wrong.
#[derive(Debug)]
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Context>> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, ApiError> {
        let AxumPath(value) = AxumPath::<T>::from_request_parts(parts, ctx).await?;
        Ok(Self(value))
    }
}

/// Query parameters; their refusal names what was wrong.
#[derive(Debug)]
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Context>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, ApiError> {
        let AxumQuery(value) = AxumQuery::<T>::from_request_parts(parts, ctx).await?;
        Ok(Self(value))
    }
}
