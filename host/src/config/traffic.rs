//! `[traffic]`: which share of a service's requests goes to its labelled revisions.

use super::Label;
use http::HeaderName;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use std::fmt;
use toml::Spanned;

/// The shares, and what overrules chance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Percent of each label, in the order in which they are written; 100 at most in all. What is left is the main revision's.
    pub shares: Vec<(Label, u32)>,
    /// What keeps a client on one revision.
    pub sticky: Option<Sticky>,
    /// Whether `x-hotbay-revision` of a request picks.
    pub header_override: bool,
}

/// Where a request says who it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Sticky {
    /// The first header of this name.
    Header(HeaderName),
    /// The cookie of this name.
    Cookie(String),
}

impl TryFrom<String> for Sticky {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unfit = || format!("`{text}` is not what requests can be told apart by; write \"header:NAME\" or \"cookie:NAME\"");
        let (from, name) = text.split_once(':').ok_or_else(unfit)?;
        // A cookie's name is a token (RFC 6265 §4.1.1), as a header's is.
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        match from {
            "header" => Ok(Self::Header(header)),
            "cookie" => Ok(Self::Cookie(name.to_owned())),
            _ => Err(unfit()),
        }
    }
}

enum Key {
    Sticky,
    HeaderOverride,
    Label(Label),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let key = String::deserialize(input)?;
        match key.as_str() {
            "sticky" => Ok(Self::Sticky),
            "header_override" => Ok(Self::HeaderOverride),
            label => {
                let label = Label::parse(label);
                label.map(Self::Label).map_err(|error| D::Error::custom(format!("{error}; {}", error.remedy())))
            }
        }
    }
}

struct Percent(u32);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label's percentage (0 to 100; the other keys here are `sticky` and `header_override`)")
            }

            fn visit_i64<E: serde::de::Error>(self, percent: i64) -> Result<Percent, E> {
                let fits = u32::try_from(percent).ok().filter(|percent| *percent <= 100);
                fits.map(Percent).ok_or_else(|| E::custom(format!("{percent} is not a percentage, 0 to 100 are")))
            }
        }
        input.deserialize_i64(Whole)
    }
}

impl<'de> Deserialize<'de> for Traffic {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Traffic;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of labels and their percentages")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Traffic, A::Error> {
                let (mut traffic, mut shares) = (Traffic::default(), Vec::new());
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Sticky => traffic.sticky = Some(map.next_value()?),
                        Key::HeaderOverride => traffic.header_override = map.next_value()?,
                        Key::Label(label) => shares.push((map.next_value::<Spanned<Percent>>()?, label)),
                    }
                }
                // The parser sorts keys by name; the order in which they are written decides who keeps whom.
                shares.sort_by_key(|(percent, _)| percent.span().start);
                traffic.shares = shares.into_iter().map(|(percent, label)| (label, percent.into_inner().0)).collect();
                let sum: u32 = traffic.shares.iter().map(|(_, percent)| percent).sum();
                if sum > 100 {
                    return Err(A::Error::custom(format!("the shares add up to {sum} percent, 100 are there")));
                }
                Ok(traffic)
            }
        }
        input.deserialize_map(Table)
    }
}

/// The text of `NAME.toml` without the share of `label`, everything else as a person wrote it; none where it has no such share.
pub fn without_share(text: &str, label: &Label) -> Option<String> {
    let mut document: toml_edit::DocumentMut = text.parse().ok()?;
    let traffic = document.get_mut("traffic")?.as_table_like_mut()?;
    traffic.remove(label.as_str())?;
    Some(document.to_string())
}

/// The text of `NAME.toml` with these shares, everything else as a person wrote it. A label without a share there gets one.
///
/// # Errors
/// Where the text is no TOML, or its `traffic` is no table: what is wrong.
pub fn with_shares<'a>(text: &str, shares: impl IntoIterator<Item = (&'a Label, u32)>) -> Result<String, String> {
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    if document.get("traffic").is_none() {
        // At the end, after the comments that stand there.
        let apart = if text.trim().is_empty() { "" } else { "\n" };
        let shares = shares.into_iter().map(|(label, percent)| format!("{label} = {percent}\n")).collect::<String>();
        return Ok(format!("{}{apart}{apart}[traffic]\n{shares}", text.trim_end()));
    }
    let traffic = document.get_mut("traffic").and_then(toml_edit::Item::as_table_like_mut).ok_or("`traffic` is no table")?;
    for (label, percent) in shares {
        match traffic.get_mut(label.as_str()).and_then(toml_edit::Item::as_value_mut) {
            // The comment behind it stays.
            Some(there) => {
                let decor = there.decor().clone();
                *there = toml_edit::Value::from(i64::from(percent));
                *there.decor_mut() = decor;
            }
            None => {
                traffic.insert(label.as_str(), toml_edit::value(i64::from(percent)));
            }
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_in_which_they_are_written() {
        let text = "sticky = 'cookie:Session'\nnext = 20\nbeta = 80\nheader_override = true\n";
        let traffic: Traffic = toml::from_str(text).unwrap();
        let shares: Vec<_> = traffic.shares.iter().map(|(label, percent)| (label.as_str(), *percent)).collect();
        assert_eq!(shares, [("next", 20), ("beta", 80)]);
        assert_eq!((traffic.sticky, traffic.header_override), (Some(Sticky::Cookie("Session".to_owned())), true));
        assert_eq!(Sticky::try_from("header:X-User".to_owned()), Ok(Sticky::Header(HeaderName::from_static("x-user"))));
    }

    #[test]
    fn what_cannot_be_shared_is_named() {
        for (text, named) in [
            ("beta = 60\nnext = 41", "101 percent"),
            ("beta = -1", "-1 is not a percentage"),
            ("beta = 101", "101 is not a percentage"),
            ("beta = 1.5", "percentage"),
            ("main = 10", "reserved"),
            ("0123456789ab = 10", "reserved"),
            ("Beta = 10", "'B'"),
            ("header-override = true", "`header_override`"),
            ("sticky = 'x-user'", "header:NAME"),
            ("sticky = 'header:'", "header:NAME"),
            ("sticky = 'query:x'", "header:NAME"),
            ("header_override = 1", "boolean"),
        ] {
            let error = toml::from_str::<Traffic>(text).unwrap_err();
            assert!(error.message().contains(named), "{text}: {}", error.message());
        }
    }

    #[test]
    fn shares_are_written_and_the_rest_stays_as_it_was_written() {
        let (beta, next) = (Label::parse("beta").unwrap(), Label::parse("next").unwrap());
        let text = "# mine\n[traffic] # shares\nbeta = 10 # now\n\n[limits]\nqueue = 1\n";
        let written = with_shares(text, [(&beta, 25), (&next, 5)]).unwrap();
        assert_eq!(written, "# mine\n[traffic] # shares\nbeta = 25 # now\nnext = 5\n\n[limits]\nqueue = 1\n");
        assert_eq!(with_shares("", [(&beta, 5)]).unwrap(), "[traffic]\nbeta = 5\n");
        assert_eq!(with_shares("# mine", [(&beta, 5)]).unwrap(), "# mine\n\n[traffic]\nbeta = 5\n");
        assert_eq!(with_shares("traffic = { beta = 1 }\n", [(&beta, 5)]).unwrap(), "traffic = { beta = 5 }\n");
        assert_eq!(with_shares("traffic = 1\n", [(&beta, 5)]).unwrap_err(), "`traffic` is no table");
        assert!(with_shares("[traffic", [(&beta, 5)]).is_err());
    }

    #[test]
    fn a_share_is_taken_out_and_the_rest_stays_as_it_was_written() {
        let beta = Label::parse("beta").unwrap();
        let text = "# mine\n[traffic] # shares\nbeta = 10 # now\nnext = 5\n\n[limits]\nqueue = 1\n";
        assert_eq!(without_share(text, &beta).unwrap(), "# mine\n[traffic] # shares\nnext = 5\n\n[limits]\nqueue = 1\n");
        assert_eq!(without_share("[traffic]\nbeta = 10\n", &beta).unwrap(), "[traffic]\n");
        assert_eq!(without_share("[limits]\nqueue = 1\n", &beta), None);
    }
}
