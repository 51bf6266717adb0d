//! First contact: the mesh shows who it is before the newcomer gives its secret away.

use picket_rt::identity::{AgentKey, Peer, csr_public_key_fingerprint};
use picket_rt::join_token::JoinToken;
use picket_rt::quic::{ConnectError, ask, connect_to_enrol, read_message, reply};
use picket_wire::codec::{decode, encode};
use picket_wire::control::{EnrolRefusal, EnrolReply, EnrolRequest};
use picket_wire::envelope::Head;
use picket_wire::id::AgentId;
use picket_wire::limits::{ENROL_MAX_BYTES, PAYLOAD_MAX_BYTES};
use picket_wire::name::Name;

use crate::impostor;
use crate::world::{accept, agent, authority, bind, joined, member, now, soon};

fn request(token: &JoinToken, csr: Vec<u8>) -> Vec<u8> {
    let name = |text| Name::parse(text).unwrap();
    let request = EnrolRequest {
        token: token.secret().to_owned(),
        csr,
        name: name("agent-7"),
        region: name("eu-west"),
        zone: name("a"),
        network: name("as64500"),
    };
    encode(&request, Head::NONE)
}

#[tokio::test]
async fn a_newcomer_enrols_and_comes_back_as_itself() {
    let authority = authority();
    let listener = bind(&member(&authority, 1));
    let addr = listener.local_addr().unwrap();
    let token = JoinToken::generate(authority.fingerprint()).unwrap();
    let (key, csr) = AgentKey::generate().unwrap();

    let serving = async {
        let link = accept(&listener).await.unwrap();
        assert_eq!((link.peer, link.key_fingerprint), (Peer::Anonymous, None));
        let (mut send, mut receive) = link.connection.accept_bi().await.unwrap();
        let frame = read_message(&mut receive, ENROL_MAX_BYTES)
            .await
            .unwrap()
            .unwrap();
        let (_, request) = decode::<EnrolRequest>(&frame).unwrap();
        assert_eq!(
            picket_rt::join_token::hash_secret(&request.token),
            token.hash()
        );
        let certificate = authority
            .sign_agent(AgentId(7), &request.csr, now())
            .unwrap();
        // The refusal stands for any reply: the certificate comes back by another way below.
        reply(
            &mut send,
            &encode(&EnrolReply::Refused(EnrolRefusal::UnknownToken), Head::NONE),
        )
        .await
        .unwrap();
        (
            link,
            certificate,
            csr_public_key_fingerprint(&request.csr).unwrap(),
        )
    };
    let enrolling = async {
        let link = connect_to_enrol(addr, token.ca_fingerprint())
            .await
            .unwrap();
        let frame = ask(&link.connection, &request(&token, csr), PAYLOAD_MAX_BYTES)
            .await
            .unwrap();
        decode::<EnrolReply>(&frame).unwrap();
        link
    };
    let ((_far, certificate, fingerprint), link) =
        soon(async { tokio::join!(serving, enrolling) }).await;

    assert_eq!(link.ca, authority.certificate());
    let identity = key.certified(&certificate, &link.ca).unwrap();
    let (_near, far) = joined(&bind(&identity), &listener, 1).await;
    assert_eq!(
        (far.peer, far.key_fingerprint),
        (Peer::Agent(AgentId(7)), Some(fingerprint))
    );
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_mesh() {
    let (ours, theirs) = (authority(), authority());
    let impostor = bind(&member(&theirs, 1));
    let addr = impostor.local_addr().unwrap();
    let token = JoinToken::generate(ours.fingerprint()).unwrap();
    let (near, far) = soon(async {
        tokio::join!(
            connect_to_enrol(addr, token.ca_fingerprint()),
            accept(&impostor)
        )
    })
    .await;
    // There is no connection on either side, so there is nothing a token could have been sent on.
    assert!(
        matches!(near, Err(ConnectError::Untrusted { .. })),
        "{near:?}"
    );
    assert!(far.is_err(), "{far:?}");
}

#[tokio::test]
async fn showing_the_right_authority_beside_a_foreign_certificate_is_not_enough() {
    let (ours, theirs) = (authority(), authority());
    let impostor = impostor::listen(&theirs, &ours);
    let addr = impostor.local_addr().unwrap();
    let accepting = async { impostor.accept().await.unwrap().await };
    let (near, far) =
        soon(async { tokio::join!(connect_to_enrol(addr, ours.fingerprint()), accepting) }).await;
    assert!(
        matches!(near, Err(ConnectError::Untrusted { .. })),
        "{near:?}"
    );
    assert!(far.is_err(), "{far:?}");
}

#[tokio::test]
async fn an_agent_cannot_pose_as_a_member() {
    let ours = authority();
    let impostor = impostor::listen_as(&agent(&ours, 7));
    let addr = impostor.local_addr().unwrap();
    let accepting = async { impostor.accept().await.unwrap().await };
    let (near, far) =
        soon(async { tokio::join!(connect_to_enrol(addr, ours.fingerprint()), accepting) }).await;
    assert!(
        matches!(near, Err(ConnectError::Untrusted { .. })),
        "{near:?}"
    );
    assert!(far.is_err(), "{far:?}");
}

#[tokio::test]
async fn a_stranger_has_room_for_one_request_only() {
    let authority = authority();
    let listener = bind(&member(&authority, 1));
    let addr = listener.local_addr().unwrap();
    let (near, far) = soon(async {
        tokio::join!(
            connect_to_enrol(addr, authority.fingerprint()),
            accept(&listener)
        )
    })
    .await;
    let (near, _far) = (near.unwrap(), far.unwrap());
    let _first = soon(near.connection.open_bi()).await.unwrap();
    let second = std::pin::pin!(near.connection.open_bi());
    let uni = std::pin::pin!(near.connection.open_uni());
    assert!(futures_util::future::poll_immediate(second).await.is_none());
    assert!(futures_util::future::poll_immediate(uni).await.is_none());
}
