//! A name server on loopback that answers by a table (RFC 1035, section 4).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// What is said about a name.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These addresses; to a query for the other family, nothing.
    Addresses(Vec<IpAddr>),
    /// The first time the first, from then on the second (what a rebinding attack does).
    FirstThen(IpAddr, IpAddr),
    /// This response code.
    Code(u8),
    /// No answer.
    Nothing,
}

const NXDOMAIN: u8 = 3;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A running name server; it ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl NameServer {
    pub(crate) async fn start(table: &[(&str, Says)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let table: BTreeMap<String, Says> = table
            .iter()
            .map(|(name, says)| ((*name).to_owned(), says.clone()))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(socket, table, Arc::clone(&asked)));
        Self { address, asked }
    }

    /// How often the IPv4 addresses of `name` were asked for.
    pub(crate) fn n_asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|(asked, kind)| asked == name && *kind == TYPE_A)
            .count()
    }
}

async fn serve(
    socket: UdpSocket,
    table: BTreeMap<String, Says>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
) {
    let mut query = [0; 1_500];
    loop {
        let (n_bytes, client) = socket.recv_from(&mut query).await.unwrap();
        let (name, kind, question_end) = question(&query[..n_bytes]);
        let n_before = {
            let mut asked = asked.lock().unwrap();
            let same = |(asked, asked_kind): &&(String, u16)| *asked == name && *asked_kind == kind;
            let n_before = asked.iter().filter(same).count();
            asked.push((name.clone(), kind));
            n_before
        };
        let (code, addresses) = match table.get(&name) {
            None => (NXDOMAIN, vec![]),
            Some(Says::Nothing) => continue,
            Some(Says::Code(code)) => (*code, vec![]),
            Some(Says::Addresses(addresses)) => (0, addresses.clone()),
            Some(Says::FirstThen(first, _)) if n_before == 0 => (0, vec![*first]),
            Some(Says::FirstThen(_, then)) => (0, vec![*then]),
        };
        let answer = answer(&query[..question_end], code, kind, &addresses);
        socket.send_to(&answer, client).await.unwrap();
    }
}

/// The name in lower case, the type, and where the question ends.
fn question(query: &[u8]) -> (String, u16, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_ascii_lowercase()).unwrap());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn answer(header_and_question: &[u8], code: u8, kind: u16, addresses: &[IpAddr]) -> Vec<u8> {
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) if kind == TYPE_A => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if kind == TYPE_AAAA => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut message = header_and_question.to_vec();
    message[2] = 0x81; // response, recursion desired
    message[3] = 0x80 | code; // recursion available
    message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    message[8..12].fill(0);
    for data in records {
        message.extend([0xc0, 12]); // the name of the question
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0]); // class IN, TTL 0
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}
