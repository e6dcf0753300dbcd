//! Which process listens on a port, as far as this user may see.

use std::{fmt, fs, path::Path};

/// The state of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pid: String,
    name: String,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that listens on `port`, on whatever address.
pub(super) fn of(port: u16) -> Option<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines()).find_map(|line| inode(line, port))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let holds = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .into_iter()
            .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target == Path::new(&wanted)))
    };
    // Processes have numbers; `self` is a link to one of them.
    let is_number = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let process = processes.map(|entry| entry.path()).find(|process| is_number(process) && holds(process))?;
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Listener { pid: process.file_name()?.to_string_lossy().into_owned(), name })
}

/// The socket's number, if this line of the table is one that listens on `port`.
fn inode(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let (_, hex) = local.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTENING && u16::from_str_radix(hex, 16) == Ok(port)).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48211 1 0000000000000000";
        assert_eq!(inode(line, 8080), Some("48211"));
        assert_eq!(inode(line, 8081), None);
        assert_eq!(inode(&line.replace(" 0A ", " 01 "), 8080), None);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = of(socket.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.pid, std::process::id().to_string());
    }
}
