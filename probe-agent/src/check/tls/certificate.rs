//! What a certificate chain is worth, as one of a few countable faults.
//!
//! Signatures, names and usages are judged by webpki. It does not tell when a good certificate
//! expires, so that one date is read here, by a reader of the few DER elements before it.

use picket_wire::reason::Reason;
use picket_wire::time::Timestamp;
use rustls_pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage};

/// Why a chain is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A certificate of the chain has expired.
    #[error("the certificate has expired")]
    Expired,
    /// A certificate of the chain is not valid yet.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// The leaf names other hosts.
    #[error("the certificate names another host")]
    WrongHost,
    /// The chain ends in no trusted root.
    #[error("the certificate chain ends in no trusted root")]
    Untrusted,
    /// Something else.
    #[error("the certificate is broken: {0}")]
    Broken(String),
}

/// A rejected chain, with what was learned of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub(crate) struct Rejected {
    /// What is wrong.
    pub(crate) fault: Fault,
    /// When the leaf expires.
    pub(crate) expires: Option<Timestamp>,
}

impl Rejected {
    /// The countable reason.
    pub(crate) const fn reason(&self) -> Reason {
        match self.fault {
            Fault::Expired => Reason::TlsExpired,
            Fault::NotYetValid => Reason::TlsNotYetValid,
            Fault::WrongHost => Reason::TlsWrongHost,
            Fault::Untrusted => Reason::TlsUntrusted,
            Fault::Broken(_) => Reason::TlsBadCertificate,
        }
    }
}

/// Whether `leaf` may speak for `name` at `now`.
pub(crate) fn judge(
    anchors: &[TrustAnchor<'_>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Fault> {
    let leaf = EndEntityCert::try_from(leaf).map_err(fault_of)?;
    let usage = KeyUsage::server_auth();
    leaf.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None)
        .map_err(fault_of)?;
    leaf.verify_is_valid_for_subject_name(name)
        .map_err(fault_of)
}

fn fault_of(error: webpki::Error) -> Fault {
    match error {
        webpki::Error::CertExpired { .. } => Fault::Expired,
        webpki::Error::CertNotValidYet { .. } => Fault::NotYetValid,
        webpki::Error::CertNotValidForName(_) => Fault::WrongHost,
        // A self-signed certificate usually says that it is a CA: it is its own, untrusted root.
        // A signature that does not fit is an issuer that only shares the name of a trusted one.
        webpki::Error::UnknownIssuer
        | webpki::Error::CaUsedAsEndEntity
        | webpki::Error::InvalidSignatureForPublicKey => Fault::Untrusted,
        other => Fault::Broken(format!("{other:?}")),
    }
}

const DER_SEQUENCE: u8 = 0x30;
const DER_VERSION: u8 = 0xa0;
const DER_UTC_TIME: u8 = 0x17;
const DER_GENERALIZED_TIME: u8 = 0x18;

/// When a certificate expires (RFC 5280, section 4.1); `None` when it cannot be read.
pub(crate) fn expires(certificate: &[u8]) -> Option<Timestamp> {
    let (DER_SEQUENCE, certificate, _) = element(certificate)? else {
        return None;
    };
    let (DER_SEQUENCE, signed, _) = element(certificate)? else {
        return None;
    };
    let mut rest = signed;
    if let (DER_VERSION, _, after) = element(rest)? {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (DER_SEQUENCE, validity, _) = element(rest)? else {
        return None;
    };
    let (_, _not_before, rest) = element(validity)?;
    let (tag, not_after, _) = element(rest)?;
    parse_time(tag, not_after)
}

/// Splits off one element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Three bytes of length are 16 MB, more than a handshake carries.
        let n_bytes = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(n_bytes).filter(|_| n_bytes <= 3)?;
        (
            digits
                .iter()
                .fold(0, |length, &digit| length << 8 | usize::from(digit)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms RFC 5280 allows.
fn parse_time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_i64, |sum, &digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = match tag {
        DER_UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            (
                if year < 50 {
                    2_000 + year
                } else {
                    1_900 + year
                },
                rest,
            )
        }
        DER_GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let [month @ .., b'Z'] = rest else {
        return None;
    };
    let fields: Vec<i64> = month.chunks(2).map(number).collect::<Option<_>>()?;
    let [
        month @ 1..=12,
        day @ 1..=31,
        hour @ 0..=23,
        minute @ 0..=59,
        second @ 0..=59,
    ] = fields[..]
    else {
        return None;
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000))
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that
/// the leap day comes last.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_agree_with_the_calendar() {
        for (text, seconds) in [
            ("700101000000Z", 0),
            ("000229120000Z", 951_825_600),
            ("491231235959Z", 2_524_607_999),
            ("500101000000Z", -631_152_000),
        ] {
            let parsed = parse_time(DER_UTC_TIME, text.as_bytes());
            assert_eq!(parsed, Some(Timestamp(seconds * 1_000)), "{text}");
        }
        let far = parse_time(DER_GENERALIZED_TIME, b"99991231235959Z");
        assert_eq!(far, Some(Timestamp(253_402_300_799_000)));
    }

    #[test]
    fn text_that_is_no_date_is_none() {
        for text in [
            "",
            "Z",
            "7001010000Z",
            "700101000000",
            "7013010000 0Z",
            "700132000000Z",
        ] {
            assert_eq!(parse_time(DER_UTC_TIME, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_expiry_of_a_real_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
        for (year, seconds) in [(2031, 1_924_992_000), (2061, 2_871_763_200_i64)] {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(
                expires(certificate.der()),
                Some(Timestamp(seconds * 1_000)),
                "{year}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>()) {
            let _whatever = expires(&bytes);
        }

        #[test]
        fn a_damaged_certificate_does_not_make_it_panic(at in 0_usize..200, byte in any::<u8>()) {
            static LEAF: LazyLock<Vec<u8>> = LazyLock::new(|| {
                let names = vec!["example.org".to_owned()];
                rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
            });
            let mut der = LEAF.clone();
            der[at] = byte;
            let _whatever = expires(&der);
        }
    }
}
