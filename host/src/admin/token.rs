//! The token that every call of the API needs: made at the first start, kept in the state folder.

use crate::state;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// The token's file in the state folder; commands read it.
pub const FILE: &str = "admin.token";

/// 256 random bits.
const BYTES: usize = 32;

/// What a call must bring.
pub(super) struct Token {
    /// Keyed with the token itself: tags of equal length are compared in constant time, whatever was offered.
    mac: Hmac<Sha256>,
    tag: [u8; 32],
}

impl Token {
    fn new(text: &str) -> io::Result<Self> {
        let mac = Hmac::<Sha256>::new_from_slice(text.as_bytes()).map_err(io::Error::other)?;
        let tag = mac.clone().chain_update(text).finalize().into_bytes().into();
        Ok(Self { mac, tag })
    }

    /// Reads the token, or makes one. Whoever calls holds the lock of the state folder, so that hosts that start at once have one.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        match read(&path) {
            Ok(text) => Self::new(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bits = [0; BYTES];
                getrandom::fill(&mut bits).map_err(io::Error::other)?;
                let text = hex::encode(bits);
                state::write_whole(&path, format!("{text}\n").as_bytes())?;
                Self::new(&text)
            }
            Err(error) => Err(io::Error::other(format!("{FILE}: {error}"))),
        }
    }

    /// Whether this is it.
    pub(super) fn is(&self, offered: &str) -> bool {
        self.mac.clone().chain_update(offered).verify_slice(&self.tag).is_ok()
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut file = state::open_own(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others may read it (mode {:o}); delete it, and the next start makes another",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    file.by_ref().take(1024).read_to_string(&mut text)?;
    let text = text.trim();
    // A short one would be guessed.
    let whole = text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let not_whole = || io::Error::other("it is not 64 hex digits; delete it, and the next start makes another");
    whole.then(|| text.to_owned()).ok_or_else(not_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn it_is_made_once_and_only_the_whole_of_it_will_do() {
        let state = tempfile::tempdir().unwrap();
        let token = Token::open(state.path()).unwrap();
        let text = fs::read_to_string(state.path().join(FILE)).unwrap();
        assert!(token.is(text.trim()) && Token::open(state.path()).unwrap().is(text.trim()));
        for wrong in ["", &text, text.trim().get(1..).unwrap(), &"0".repeat(64)] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert_eq!(fs::metadata(state.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn one_that_others_may_read_or_that_is_cut_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE);
        Token::open(state.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::open(state.path()).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "abc").unwrap();
        assert!(Token::open(state.path()).is_err());
    }
}
