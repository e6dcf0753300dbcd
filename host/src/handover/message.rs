//! What two hosts say to each other at a hand-over. New fields need a default, so that hosts of different versions understand
//! each other; what changes the meaning needs another number of the protocol.

use serde::{Deserialize, Serialize};

/// How the new host begins. Whatever comes after this version of it keeps these fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    #[serde(default)]
    pub(super) version: String,
    /// Which bay it serves, see [`super::place::bay_id`].
    #[serde(default)]
    pub(super) bay: String,
}

/// What else the new host says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(super) enum FromNew {
    /// Everything in the bay has been decided; these services would be served.
    Ready { serving: Vec<String> },
    /// It serves.
    Accepting,
}

/// What the old host answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(super) enum FromOld {
    /// The sockets beside this message, by name and in this order.
    Offer { version: String, sockets: Vec<String> },
    /// The new host may accept.
    Go,
    /// Services that the old host serves and the new one does not.
    Missing { services: Vec<String> },
    /// Why there is no hand-over.
    Refused { reason: String },
}
