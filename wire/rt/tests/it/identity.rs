//! Authorities and identities on disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use picket_rt::identity::{
    AGENT_LIFETIME, AgentKey, Authority, FileError, Identity, IdentityError, MEMBER_LIFETIME, Peer,
    SignError, csr_public_key_fingerprint,
};
use picket_wire::id::{AgentId, MemberId};
use rcgen::{CertificateParams, KeyPair, SanType};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::world::{Folder, agent, authority, member, now};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) => (*name).to_owned(),
        other => format!("{other:?}"),
    };
    names.value.general_names.iter().map(text).collect()
}

#[test]
fn an_authority_reads_back_what_it_wrote() {
    let folder = Folder::new();
    let created = Authority::create(folder.path(), now()).unwrap();
    let loaded = Authority::load(folder.path()).unwrap();
    assert_eq!(created.fingerprint(), loaded.fingerprint());
    assert_eq!(created.certificate(), loaded.certificate());
    let key = loaded.issue_member(MemberId(1), &[], now()).unwrap();
    assert_eq!(key.ca(), created.certificate());
}

#[test]
fn an_authority_is_never_overwritten() {
    let folder = Folder::new();
    let first = Authority::create(folder.path(), now()).unwrap();
    let error = Authority::create(folder.path(), now()).unwrap_err();
    assert!(
        matches!(error, IdentityError::File(FileError::Exists { .. })),
        "{error}"
    );
    assert_eq!(
        Authority::load(folder.path()).unwrap().fingerprint(),
        first.fingerprint()
    );
}

#[test]
fn keys_are_private_to_their_owner() {
    let folder = Folder::new();
    let authority = Authority::create(folder.path(), now()).unwrap();
    member(&authority, 1).save(folder.path()).unwrap();
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
    assert_eq!(mode(&folder.path().join("ca.pem")), 0o644);
    assert_eq!(mode(&folder.path().join("identity.pem")), 0o600);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = Folder::new();
    let authority = Authority::create(folder.path(), now()).unwrap();
    member(&authority, 1).save(folder.path()).unwrap();
    for exposed in [0o604, 0o640, 0o644] {
        for file in ["ca.key", "identity.pem"] {
            let mode = std::fs::Permissions::from_mode(exposed);
            std::fs::set_permissions(folder.path().join(file), mode).unwrap();
        }
        let error = Authority::load(folder.path()).unwrap_err();
        assert!(
            matches!(error, IdentityError::File(FileError::Exposed { mode, .. }) if mode == exposed)
        );
        let error = Identity::load(folder.path()).unwrap_err();
        assert!(
            matches!(error, IdentityError::File(FileError::Exposed { .. })),
            "{error}"
        );
    }
}

#[test]
fn an_identity_reads_back_what_it_wrote_and_replaces_an_older_one() {
    let folder = Folder::new();
    let authority = authority();
    agent(&authority, 6).save(folder.path()).unwrap();
    let saved = agent(&authority, 7);
    saved.save(folder.path()).unwrap();
    let loaded = Identity::load(folder.path()).unwrap();
    assert_eq!(loaded.peer(), Peer::Agent(AgentId(7)));
    assert_eq!(loaded.ca(), authority.certificate());
    assert_eq!(loaded.expires_at(), saved.expires_at());
}

#[test]
fn a_missing_identity_is_told_from_a_broken_one() {
    let folder = Folder::new();
    let error = Identity::load(folder.path()).unwrap_err();
    assert!(error.is_missing(), "{error}");
    agent(&authority(), 7).save(folder.path()).unwrap();
    let path = folder.path().join("identity.pem");
    let text = std::fs::read_to_string(&path).unwrap();
    let (without_ca, _) = text.rsplit_once("-----BEGIN CERTIFICATE").unwrap();
    for broken in ["", "not a key", without_ca] {
        std::fs::write(&path, broken).unwrap();
        let error = Identity::load(folder.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
    }
}

#[test]
fn certificates_last_as_long_as_they_should() {
    let authority = authority();
    let now = now();
    let until = |identity: Identity| identity.expires_at().since(now).0.div_ceil(10_000);
    assert_eq!(until(member(&authority, 1)), MEMBER_LIFETIME.0 / 10_000);
    assert_eq!(until(agent(&authority, 7)), AGENT_LIFETIME.0 / 10_000);
}

#[test]
fn of_a_request_only_the_key_is_used() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec!["member-1.picket.internal".to_owned()]).unwrap();
    greedy
        .subject_alt_names
        .push(SanType::URI("picket://member/1".try_into().unwrap()));
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let request = greedy.serialize_request(&key).unwrap();
    let signed = authority
        .sign_agent(AgentId(7), request.der(), now())
        .unwrap();

    let (_, certificate) = X509Certificate::from_der(&signed).unwrap();
    assert_eq!(names(&certificate), ["picket://agent/7"]);
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(
        certificate
            .subject()
            .to_string()
            .contains("picket://agent/7")
    );
}

#[test]
fn a_request_that_its_key_has_not_signed_is_refused() {
    let authority = authority();
    let (_, mut request) = AgentKey::generate().unwrap();
    *request.last_mut().unwrap() ^= 1;
    let error = authority
        .sign_agent(AgentId(7), &request, now())
        .unwrap_err();
    assert!(matches!(error, SignError::Possession), "{error}");
    assert!(csr_public_key_fingerprint(&request).is_err());
}

#[test]
fn a_request_with_another_kind_of_key_or_no_request_is_refused() {
    let authority = authority();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let error = authority
        .sign_agent(AgentId(7), request.der(), now())
        .unwrap_err();
    assert!(matches!(error, SignError::KeyKind), "{error}");
    for junk in [&b""[..], b"junk", authority.certificate()] {
        let error = authority.sign_agent(AgentId(7), junk, now()).unwrap_err();
        assert!(matches!(error, SignError::Request(_)), "{error}");
    }
}

#[test]
fn a_certificate_for_another_key_or_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let (_, request) = AgentKey::generate().unwrap();
    let certificate = ours.sign_agent(AgentId(7), &request, now()).unwrap();
    let (other, _) = AgentKey::generate().unwrap();
    let error = other
        .certified(&certificate, ours.certificate())
        .unwrap_err();
    assert!(matches!(error, IdentityError::ForeignKey), "{error}");

    let (key, request) = AgentKey::generate().unwrap();
    let certificate = ours.sign_agent(AgentId(7), &request, now()).unwrap();
    let error = key
        .certified(&certificate, theirs.certificate())
        .unwrap_err();
    assert!(matches!(error, IdentityError::ForeignAuthority), "{error}");
}

#[test]
fn a_member_s_further_names_cannot_be_those_of_the_mesh() {
    let authority = authority();
    let issue = |name: &str| authority.issue_member(MemberId(1), &[name.to_owned()], now());
    assert!(issue("scheduler-1.example.org").is_ok());
    assert!(issue("192.0.2.7").is_ok() && issue("2001:db8::7").is_ok());
    for name in [
        "member-2.picket.internal",
        "Member-2.Picket.Internal",
        "",
        "a b",
        "*.example.org",
    ] {
        let error = issue(name).unwrap_err();
        assert!(
            matches!(error, IdentityError::Sign(SignError::Name(_))),
            "{name}: {error}"
        );
    }
}

#[test]
fn no_key_appears_in_debug_output() {
    let folder = Folder::new();
    let authority = Authority::create(folder.path(), now()).unwrap();
    let identity = member(&authority, 1);
    identity.save(folder.path()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("identity.pem")).unwrap();
    let key_line = text.lines().nth(1).unwrap();
    let (agent_key, _) = AgentKey::generate().unwrap();
    let shown = format!("{identity:?} {authority:?} {agent_key:?}");
    assert!(
        !shown.contains(key_line) && !shown.contains("PrivateKey"),
        "{shown}"
    );
}
