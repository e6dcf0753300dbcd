//! Which user of this machine is at the other end of a connection, where both ends are here.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

/// The columns of the tables of connections.
const LOCAL: usize = 1;
const REMOTE: usize = 2;
const USER: usize = 7;

/// The user who has the other end of the connection that came from `peer` to our address `reached`. None where that end is elsewhere,
/// in another network namespace, or this system does not tell. Waits for the kernel.
pub(super) fn of(peer: SocketAddr, reached: SocketAddr) -> Option<u32> {
    let [peer, reached] = [peer, reached].map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    // What came to us as IPv4 in IPv6 has an IPv4 socket at its other end, or one of both.
    let tables: &[&str] = if peer.is_ipv4() { &["/proc/net/tcp", "/proc/net/tcp6"] } else { &["/proc/net/tcp6"] };
    tables.iter().find_map(|table| {
        let lines = BufReader::new(File::open(table).ok()?).lines();
        let is_v6 = table.ends_with('6');
        let ends = [written(peer, is_v6), written(reached, is_v6)];
        lines.map_while(Result::ok).find_map(|line| user_in(&line, &ends))
    })
}

fn user_in(line: &str, [local, remote]: &[String; 2]) -> Option<u32> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let is_it = columns.get(LOCAL) == Some(&local.as_str()) && columns.get(REMOTE) == Some(&remote.as_str());
    is_it.then(|| columns.get(USER)?.parse().ok()).flatten()
}

/// As the kernel writes it: words of four bytes, each as a number of this machine.
fn written(address: SocketAddr, is_v6: bool) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) if is_v6 => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in bytes.as_chunks::<4>().0 {
        // Writing to a String does not fail.
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
    }
    let _ = write!(text, ":{:04X}", address.port());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_user_of_a_connection_of_this_machine_is_found() {
        for (address, ip) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let ip: IpAddr = ip.parse().unwrap();
            let client = TcpStream::connect((ip, listener.local_addr().unwrap().port())).unwrap();
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(of(peer, server.local_addr().unwrap()), Some(rustix::process::getuid().as_raw()), "{address}");
            drop(client);
        }
        assert_eq!(of("192.0.2.1:1".parse().unwrap(), "127.0.0.1:1".parse().unwrap()), None);
    }
}
