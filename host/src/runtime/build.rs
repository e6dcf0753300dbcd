//! A `.wasm` file as it was read: its bytes, its digest and what they are.

use super::{
    artifact::{Binary, Unfit, exports, identify},
    digest::Digest,
    linker::Kind,
};
use bytes::Bytes;

/// One build of a service, not yet loaded. Making one hashes the whole file: do it off the async threads.
#[derive(Debug, Clone)]
pub struct Build {
    pub(super) wasm: Bytes,
    digest: Digest,
    binary: Result<Binary, Unfit>,
}

impl Build {
    /// Hashes and identifies `wasm`.
    pub fn of(wasm: Bytes) -> Self {
        Self { digest: Digest::of(&wasm), binary: identify(&wasm), wasm }
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The file as it was read.
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.wasm.len()
    }

    /// What the file is.
    ///
    /// # Errors
    /// [`Unfit`] for what can never serve.
    pub fn binary(&self) -> Result<Binary, &Unfit> {
        self.binary.as_ref().copied()
    }

    /// The interfaces that it exports, as far as they can be read without compiling it.
    pub fn exports(&self) -> Vec<String> {
        exports(&self.wasm)
    }

    /// How it would be served, where its exports say so without compiling it.
    pub fn kind(&self) -> Option<Kind> {
        match self.binary.as_ref().ok()? {
            Binary::Command => Some(Kind::Command),
            Binary::Component | Binary::ModuleWithWit => Kind::of(&self.exports()),
        }
    }

    /// Whether more bytes could mend it: the file may still be being written.
    pub fn may_be_half_written(&self) -> bool {
        self.binary.as_ref().is_err_and(Unfit::may_be_half_written)
    }
}
