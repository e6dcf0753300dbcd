//! A name server whose answers a test makes up.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// A server on a free port of this machine, over UDP. Dropping it ends it.
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

const TYPE_A: [u8; 2] = [0, 1];

impl NameServer {
    /// `answer` is given a name and how often its address was asked for before, and says which addresses it has. No answer may
    /// be kept (TTL 0).
    pub async fn answering(answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::<String>::new()));
        let task = tokio::spawn({
            let asked = asked.clone();
            async move {
                let mut packet = [0; 1500];
                while let Ok((len, client)) = socket.recv_from(&mut packet).await {
                    let Some((name, question)) = question(&packet[..len]) else { continue };
                    let found = if question.get(question.len() - 4..question.len() - 2) == Some(&TYPE_A) {
                        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                        let before = asked.iter().filter(|one| **one == name).count();
                        asked.push(name.clone());
                        answer(&name, before)
                    } else {
                        Vec::new()
                    };
                    // Nobody waits for it any more where that fails.
                    let _ = socket.send_to(&reply(&packet[..2], question, &found), client).await;
                }
            }
        });
        Self { address, asked, task }
    }

    /// The settings that make a host ask it.
    pub fn config(&self) -> String {
        format!("nameserver = \"{}\"\n", self.address)
    }

    /// The names whose address was asked for, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name that is asked for, without the dot at its end, and the bytes of the question (RFC 1035 §4.1.2).
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), packet.get(12..at + 4)?));
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + len)?).into_owned());
        at += len;
    }
}

fn reply(id: &[u8], question: &[u8], found: &[Ipv4Addr]) -> Vec<u8> {
    let count = u8::try_from(found.len()).expect("few addresses");
    // A response that was recursed for, without error: one question, so many answers.
    let mut reply = [id, &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in found {
        // The name of the question, A, IN, TTL 0, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}
