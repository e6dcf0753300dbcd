//! The keys, where somebody sits at a terminal, and the terminal as it was found.

use console::{Key, Term};
use std::{io::IsTerminal, sync::OnceLock};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Rebuild,
    Open,
    Quit,
}

/// How the terminal was found.
static FOUND: OnceLock<libc::termios> = OnceLock::new();

/// Reads keys on a thread of its own from here on. None where nobody can press any: no terminal, or one that another process has.
pub(super) fn start() -> Option<mpsc::UnboundedReceiver<Asked>> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() || !is_ours() {
        return None;
    }
    FOUND.set(found()?).ok()?;
    let (tell, told) = mpsc::unbounded_channel();
    let read = move || {
        // A terminal that has gone has no more keys. Ctrl-C comes as its signal, and as an error here.
        loop {
            let asked = match Term::stdout().read_key() {
                Ok(Key::Char('r' | 'R')) => Asked::Rebuild,
                Ok(Key::Char('o' | 'O')) => Asked::Open,
                Ok(Key::Char('q' | 'Q')) => Asked::Quit,
                Ok(_) => continue,
                Err(_) => return,
            };
            if tell.send(asked).is_err() || asked == Asked::Quit {
                return;
            }
        }
    };
    std::thread::Builder::new().name("hotbay-keys".to_owned()).spawn(read).ok()?;
    Some(told)
}

/// Puts the terminal back as it was found: the thread that reads a key has it otherwise, and does not end with the process in
/// good order.
pub(crate) fn restore() {
    if let Some(found) = FOUND.get() {
        #[allow(unsafe_code, reason = "there is no safe form among the crates that are here")]
        // SAFETY: the descriptor is the process's own stdin, and the structure was filled by the system.
        unsafe {
            libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, found);
        }
    }
}

/// Whether this process is the one that the terminal listens to: one in the background would be stopped.
fn is_ours() -> bool {
    #[allow(unsafe_code, reason = "there is no safe form among the crates that are here")]
    // SAFETY: both calls take and give numbers.
    unsafe {
        libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp()
    }
}

fn found() -> Option<libc::termios> {
    let mut found = std::mem::MaybeUninit::uninit();
    #[allow(unsafe_code, reason = "there is no safe form among the crates that are here")]
    // SAFETY: the system fills the structure where it answers 0, and it is not looked at otherwise.
    unsafe {
        (libc::tcgetattr(libc::STDIN_FILENO, found.as_mut_ptr()) == 0).then(|| found.assume_init())
    }
}
