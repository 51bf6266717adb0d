//! Links between members and agents, and messages on them.

use picket_rt::identity::Peer;
use picket_rt::quic::quinn::ConnectionError;
use picket_rt::quic::{
    ALPN, CloseCode, ConnectError, Mesh, MessageReader, PRIORITY_EVIDENCE, ReadMessageError, ask,
    close, quinn, read_message, reply, send_message, send_uni,
};
use picket_wire::envelope::ENVELOPE_BYTES;
use picket_wire::id::{AgentId, MemberId};
use picket_wire::limits::PAYLOAD_MAX_BYTES;

use crate::world::{accept, agent, authority, bind, joined, member, message, soon};

async fn member_and_agent() -> (Mesh, Mesh, picket_rt::quic::Link, picket_rt::quic::Link) {
    let authority = authority();
    let (listener, dialler) = (bind(&member(&authority, 1)), bind(&agent(&authority, 7)));
    let (near, far) = joined(&dialler, &listener, 1).await;
    (listener, dialler, near, far)
}

#[tokio::test]
async fn an_agent_and_a_member_know_each_other() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    assert_eq!(near.peer, Peer::Member(MemberId(1)));
    assert_eq!(far.peer, Peer::Agent(AgentId(7)));
    let handshake = near.connection.handshake_data().unwrap();
    let handshake = handshake
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .unwrap();
    assert_eq!(handshake.protocol.as_deref(), Some(ALPN));
}

#[tokio::test]
async fn a_member_dials_and_listens_on_one_socket() {
    let authority = authority();
    let (first, second) = (bind(&member(&authority, 1)), bind(&member(&authority, 2)));
    let (near, far) = joined(&first, &second, 2).await;
    assert_eq!(
        (near.peer, far.peer),
        (Peer::Member(MemberId(2)), Peer::Member(MemberId(1)))
    );
    assert_eq!(far.connection.remote_address(), first.local_addr().unwrap());
    let (near, far) = joined(&second, &first, 1).await;
    assert_eq!(
        (near.peer, far.peer),
        (Peer::Member(MemberId(1)), Peer::Member(MemberId(2)))
    );
}

#[tokio::test]
async fn a_member_that_was_killed_and_is_back_resets_its_former_links() {
    let authority = authority();
    let (identity, dialler) = (member(&authority, 1), bind(&agent(&authority, 7)));
    let own = identity.clone();
    let (told, addr) = tokio::sync::oneshot::channel();
    let former_life = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let left = runtime.block_on(async {
            let listener = bind(&own);
            told.send(listener.local_addr().unwrap()).unwrap();
            (accept(&listener).await.unwrap(), listener)
        });
        // One thread drove it all, and does so no more: nothing there can say good-bye.
        drop(runtime);
        drop(left);
    });
    let addr = soon(addr).await.unwrap();
    let near = soon(dialler.connect(addr, MemberId(1))).await.unwrap();
    soon(former_life).await.unwrap();
    let _back = soon(async {
        loop {
            if let Ok(back) = Mesh::bind(addr, &identity) {
                break back;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Refused when a packet of the handshake, sent once more, was answered before.
    drop(send_uni(&near.connection, PRIORITY_EVIDENCE, &message(100)).await);
    let began = std::time::Instant::now();
    let reason = soon(near.connection.closed()).await;
    assert_eq!(
        reason,
        ConnectionError::Reset,
        "after {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_member_that_is_not_the_expected_one_is_refused() {
    let authority = authority();
    let (listener, dialler) = (bind(&member(&authority, 1)), bind(&agent(&authority, 7)));
    let addr = listener.local_addr().unwrap();
    let (near, far) =
        soon(async { tokio::join!(dialler.connect(addr, MemberId(2)), accept(&listener)) }).await;
    assert!(
        matches!(near, Err(ConnectError::Untrusted { .. })),
        "{near:?}"
    );
    assert!(far.is_err(), "{far:?}");
}

#[tokio::test]
async fn a_member_of_another_mesh_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let (listener, dialler) = (bind(&member(&theirs, 1)), bind(&agent(&ours, 7)));
    let addr = listener.local_addr().unwrap();
    let (near, far) =
        soon(async { tokio::join!(dialler.connect(addr, MemberId(1)), accept(&listener)) }).await;
    assert!(
        matches!(near, Err(ConnectError::Untrusted { .. })),
        "{near:?}"
    );
    assert!(far.is_err(), "{far:?}");
}

#[tokio::test]
async fn an_agent_whose_certificate_has_expired_is_refused() {
    let authority = authority();
    let long_ago = picket_wire::time::Timestamp(1_000_000_000_000);
    let (key, request) = picket_rt::identity::AgentKey::generate().unwrap();
    let certificate = authority
        .sign_agent(AgentId(7), &request, long_ago)
        .unwrap();
    let expired = key
        .certified(&certificate, authority.certificate())
        .unwrap();
    let (listener, dialler) = (bind(&member(&authority, 1)), bind(&expired));
    let addr = listener.local_addr().unwrap();
    let (near, far) =
        soon(async { tokio::join!(dialler.connect(addr, MemberId(1)), accept(&listener)) }).await;
    assert!(far.is_err(), "{far:?}");
    // TLS 1.3 tells the dialler only after its own handshake; it learns of it here at the latest.
    if let Ok(link) = near {
        let ended = soon(link.connection.closed()).await;
        assert!(
            matches!(ended, ConnectionError::ConnectionClosed(_)),
            "{ended}"
        );
    }
}

#[tokio::test]
async fn a_replaced_identity_counts_from_the_next_connection_on() {
    let (authority, other) = (authority(), authority());
    let (listener, dialler) = (bind(&member(&authority, 1)), bind(&agent(&authority, 7)));
    let (near, _far) = joined(&dialler, &listener, 1).await;
    dialler.replace_identity(&agent(&other, 7)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (refused, _) =
        soon(async { tokio::join!(dialler.connect(addr, MemberId(1)), accept(&listener)) }).await;
    assert!(
        matches!(refused, Err(ConnectError::Untrusted { .. })),
        "{refused:?}"
    );
    assert!(near.connection.close_reason().is_none());
    dialler.replace_identity(&agent(&authority, 8)).unwrap();
    let (_near, far) = joined(&dialler, &listener, 1).await;
    assert_eq!(far.peer, Peer::Agent(AgentId(8)));
}

#[tokio::test]
async fn an_agent_listens_to_nobody() {
    let authority = authority();
    let (deaf, dialler) = (bind(&agent(&authority, 7)), bind(&member(&authority, 1)));
    let addr = deaf.local_addr().unwrap();
    let near = soon(dialler.connect(addr, MemberId(2))).await;
    assert!(
        matches!(
            near,
            Err(ConnectError::Timeout { .. } | ConnectError::Lost { .. })
        ),
        "{near:?}"
    );
}

#[tokio::test]
async fn messages_of_one_stream_arrive_whole_and_in_order() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let (mut send, _receive) = near.connection.open_bi().await.unwrap();
    let sent: Vec<_> = [0, 3, 200].map(message).into();
    for message in &sent {
        send_message(&mut send, message).await.unwrap();
    }
    send.finish().unwrap();
    let (_send, receive) = soon(far.connection.accept_bi()).await.unwrap();
    let mut reader = MessageReader::new(receive, PAYLOAD_MAX_BYTES);
    let mut got = Vec::new();
    while let Some(message) = soon(reader.next()).await.unwrap() {
        got.push(message);
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn a_reader_that_was_cancelled_keeps_its_place() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let whole = message(100);
    let (mut send, _receive) = near.connection.open_bi().await.unwrap();
    let (first, second) = whole.split_at(ENVELOPE_BYTES + 100);
    send.write_all(first).await.unwrap();
    let (_send, receive) = soon(far.connection.accept_bi()).await.unwrap();
    let mut reader = MessageReader::new(receive, PAYLOAD_MAX_BYTES);
    // The stream is here because its first bytes are: they are read, and the wait is given up.
    for _ in 0..10 {
        let next = std::pin::pin!(reader.next());
        assert!(futures_util::future::poll_immediate(next).await.is_none());
        tokio::task::yield_now().await;
    }
    send.write_all(second).await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap(), Some(whole));
}

#[tokio::test]
async fn a_message_that_is_announced_too_long_is_refused_before_it_comes() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let (mut send, _receive) = near.connection.open_bi().await.unwrap();
    // Only the envelope is sent: a reader that waits for the payload, or makes room for it, hangs.
    let whole = message(100);
    send_message(&mut send, &whole[..ENVELOPE_BYTES])
        .await
        .unwrap();
    let (_send, mut receive) = soon(far.connection.accept_bi()).await.unwrap();
    let error = soon(read_message(&mut receive, 1_000)).await.unwrap_err();
    let announced = whole.len() - ENVELOPE_BYTES;
    assert!(
        matches!(error, ReadMessageError::TooLong { max: 1_000, got } if got == announced),
        "{error}"
    );
}

#[tokio::test]
async fn a_length_beyond_every_bound_is_refused_before_it_comes() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let (mut send, _receive) = near.connection.open_bi().await.unwrap();
    let mut envelope = message(0)[..ENVELOPE_BYTES].to_vec();
    envelope[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    send_message(&mut send, &envelope).await.unwrap();
    let (_send, mut receive) = soon(far.connection.accept_bi()).await.unwrap();
    let error = soon(read_message(&mut receive, usize::MAX))
        .await
        .unwrap_err();
    assert!(matches!(error, ReadMessageError::Envelope(_)), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_torn_and_one_that_ends_before_is_not() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let whole = message(3);
    for (cut, clean) in [
        (0, true),
        (10, false),
        (ENVELOPE_BYTES, false),
        (whole.len() - 1, false),
    ] {
        let (mut send, _receive) = near.connection.open_bi().await.unwrap();
        reply(&mut send, &whole[..cut]).await.unwrap();
        let (_send, mut receive) = soon(far.connection.accept_bi()).await.unwrap();
        match soon(read_message(&mut receive, PAYLOAD_MAX_BYTES)).await {
            Ok(None) => assert!(clean, "{cut}"),
            Err(ReadMessageError::Torn { got }) => assert_eq!((got, clean), (cut, false)),
            other => panic!("after {cut} bytes: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_lane_s_message_comes_on_a_stream_of_its_own() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let sent = message(200);
    send_uni(&near.connection, PRIORITY_EVIDENCE, &sent)
        .await
        .unwrap();
    let mut receive = soon(far.connection.accept_uni()).await.unwrap();
    assert_eq!(
        soon(read_message(&mut receive, PAYLOAD_MAX_BYTES))
            .await
            .unwrap(),
        Some(sent)
    );
    assert_eq!(
        soon(read_message(&mut receive, PAYLOAD_MAX_BYTES))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_question_gets_its_answer() {
    let (_listener, _dialler, near, far) = member_and_agent().await;
    let (question, answer) = (message(1), message(2));
    let answering = async {
        let (mut send, mut receive) = far.connection.accept_bi().await.unwrap();
        let got = read_message(&mut receive, PAYLOAD_MAX_BYTES).await.unwrap();
        reply(&mut send, &answer).await.unwrap();
        got
    };
    let asking = ask(&near.connection, &question, PAYLOAD_MAX_BYTES);
    let (got, answered) = soon(async { tokio::join!(answering, asking) }).await;
    assert_eq!(got, Some(question));
    assert_eq!(answered.unwrap(), answer);
}

#[tokio::test]
async fn a_close_says_why() {
    let (listener, _dialler, near, far) = member_and_agent().await;
    close(&far.connection, CloseCode::Replaced);
    let ended = soon(near.connection.closed()).await;
    assert_eq!(CloseCode::of(&ended), Some(CloseCode::Replaced));
    listener.close(CloseCode::Stopping).await;
    assert!(soon(listener.accept()).await.is_none());
}

#[tokio::test]
async fn when_many_are_waiting_a_stranger_must_prove_its_address() {
    const CROWDED: usize = 200;
    let authority = authority();
    let (listener, dialler) = (bind(&member(&authority, 1)), bind(&agent(&authority, 7)));
    let addr = listener.local_addr().unwrap();
    let dialling = (0..=CROWDED).map(|_| dialler.connect(addr, MemberId(1)));
    let dialling = futures_util::future::join_all(dialling);
    let accepting = async {
        let mut waiting = Vec::new();
        while waiting.len() <= CROWDED {
            waiting.push(listener.accept().await.unwrap());
        }
        waiting
    };
    let waiting = soon(async {
        tokio::select! {
            waiting = accepting => waiting,
            links = dialling => panic!("nobody was let in, yet dialling ended: {:?}", links.first()),
        }
    })
    .await;
    let proven = waiting
        .iter()
        .map(picket_rt::quic::Arrival::is_address_proven);
    assert_eq!(
        proven.collect::<Vec<_>>(),
        [vec![false; CROWDED], vec![true]].concat()
    );
}
