//! Why there is no connection to a Redis, and what to do about it.

use crate::{
    capabilities::{SecretError, SecretFolder},
    config::{RedisAddress, SecretName},
};
use redis::RedisError;

/// What Redis says where the password, or the user, is another one; where it wants one; and where a user may not do this.
const WRONG: &str = "WRONGPASS";
const WANTED: &str = "NOAUTH";
const NOT_ALLOWED: &str = "NOPERM";
/// What it says, without a code of its own, where it wants none.
const NOT_WANTED: &str = "without any password configured";

/// Who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The secret cannot be read.
    Secret,
    /// Redis does not take who logs in.
    Login,
    /// It is not there, or something between is not.
    Network,
}

/// Why there is no connection.
pub(super) struct Unreached {
    pub(super) cause: Cause,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// As whom hotbay logs in, and where its password is read from.
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretName>,
    pub(super) secrets: SecretFolder,
}

impl Unreached {
    /// It does not answer as a Redis does.
    pub(super) fn network(reason: impl ToString) -> Self {
        let remedy = "see that Redis runs and that keyvalue.redis is its address; hotbay tries again by itself";
        Self { cause: Cause::Network, reason: reason.to_string(), remedy: remedy.to_owned() }
    }
}

impl Login {
    pub(super) fn new(address: &RedisAddress, password: Option<&SecretName>, secrets: SecretFolder) -> Self {
        Self { user: address.user.clone(), password: password.cloned(), secrets }
    }

    /// The secret cannot be used.
    pub(super) fn unread(&self, error: SecretError) -> Unreached {
        let remedy = match &self.password {
            Some(name) if error.is_missing => format!(
                "put the password of {} into {}, owned by hotbay's user with mode 0600, or take keyvalue.password out of hotbay's \
                 settings; hotbay tries again by itself",
                self.whose(),
                self.secrets.file(name).display()
            ),
            _ => error.remedy,
        };
        Unreached { cause: Cause::Secret, reason: error.reason, remedy }
    }

    /// Redis said this while hotbay logged in.
    pub(super) fn refused(&self, error: &RedisError) -> Unreached {
        match self.remedy(error) {
            Some(remedy) => Unreached { cause: Cause::Login, reason: error.to_string(), remedy },
            None => Unreached::network(error),
        }
    }

    /// What to do where an answer is about who logs in.
    pub(super) fn remedy(&self, error: &RedisError) -> Option<String> {
        let whose = self.whose();
        let is_not_wanted = || error.to_string().contains(NOT_WANTED);
        Some(match (error.code(), &self.password) {
            (Some(WRONG | WANTED), Some(name)) => {
                let source = self.secrets.source(name);
                format!("{source} is not the password of {whose}: put the right one there; hotbay tries again by itself")
            }
            (Some(WRONG | WANTED), None) => {
                let file = self.secrets.path().join("redis");
                format!(
                    "it wants a password: put that of {whose} into {}, owned by hotbay's user with mode 0600, set \
                     password = \"redis\" in [keyvalue] of hotbay's settings, and start hotbay anew",
                    file.display()
                )
            }
            (Some(NOT_ALLOWED), _) => {
                format!("let {whose} use these commands, and all keys (ACL SETUSER); hotbay goes on by itself")
            }
            (_, Some(name)) if is_not_wanted() => format!(
                "that Redis wants no password, and {} is one: take keyvalue.password out of hotbay's settings and start it anew, \
                 or set requirepass there",
                self.secrets.source(name)
            ),
            _ => return None,
        })
    }

    fn whose(&self) -> String {
        match &self.user {
            Some(user) => format!("the user {user} of that Redis"),
            None => "that Redis".to_owned(),
        }
    }
}
