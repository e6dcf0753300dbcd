//! Which of a service's revisions gets a request: the one it names, the one its client keeps, or one by chance.

use crate::config::{Label, ServiceName, Sticky, Traffic};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

/// `x-hotbay-revision`: of a response, who gave it; of a request, where the settings allow it, who is asked for.
pub const REVISION: HeaderName = HeaderName::from_static("x-hotbay-revision");

/// Picks are points from 0 to below this.
const POINTS: u64 = 1 << 32;

/// One revision that can be picked.
pub(super) struct Side<R> {
    /// The 12 hex digits by which it can be asked for.
    pub(super) id: HeaderValue,
    pub(super) revision: R,
}

/// The revisions of one service and the rule that picks among them.
pub struct Split<R> {
    main: Side<R>,
    labelled: Vec<Labelled<R>>,
    sticky: Option<Sticky>,
    header_override: bool,
    /// The hash of a value begins with the service's name, so that it is not the same clients everywhere who are first.
    seed: Sha256,
}

struct Labelled<R> {
    label: Label,
    side: Side<R>,
    /// The points that are its share; none where it has no share and can only be asked for.
    start: u64,
    end: u64,
}

impl<R> Split<R> {
    /// The points of a label without a revision stay the main one's.
    ///
    /// The first label takes points from the bottom up and the second from the top down: whoever is on a label stays there when
    /// a share grows, its own or the other's. No rule without memory can do that for three, so the third and what follows lie
    /// behind the first and move with it.
    pub(super) fn new(
        service: &ServiceName,
        main: Side<R>,
        labelled: impl IntoIterator<Item = (Label, Side<R>)>,
        traffic: &Traffic,
    ) -> Self {
        let mut below = 0;
        let mut ranges = Vec::with_capacity(traffic.shares.len());
        for (position, (label, percent)) in traffic.shares.iter().enumerate() {
            let width = u64::from(*percent) * POINTS / 100;
            let start = if position == 1 { POINTS - width } else { below };
            below = if position == 1 { below } else { start + width };
            ranges.push((label, start, start + width));
        }
        let place = |(label, side)| {
            let range = ranges.iter().find(|(found, ..)| **found == label);
            let (start, end) = range.map_or((0, 0), |(_, start, end)| (*start, *end));
            Labelled { label, side, start, end }
        };
        Self {
            main,
            labelled: labelled.into_iter().map(place).collect(),
            sticky: traffic.sticky.clone(),
            header_override: traffic.header_override,
            seed: Sha256::new().chain_update(service.as_str()).chain_update([0]),
        }
    }

    /// Whether the request's own `x-hotbay-revision` is for the host, and so not for the guest.
    pub fn is_asked(&self) -> bool {
        self.header_override
    }

    /// All of them, the main one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &R> {
        std::iter::once(&self.main.revision).chain(self.labelled.iter().map(|labelled| &labelled.side.revision))
    }

    /// The revision for a request with these headers.
    pub fn pick(&self, headers: &HeaderMap) -> &R {
        if let Some(named) = self.named(headers) {
            return &named.revision;
        }
        let point = self.kept(headers).unwrap_or_else(|| u64::from(fastrand::u32(..)));
        let labelled = self.labelled.iter().find(|labelled| (labelled.start..labelled.end).contains(&point));
        labelled.map_or(&self.main.revision, |labelled| &labelled.side.revision)
    }

    /// What the request asks for by name. A name that nobody has (any more) asks for nothing: no request fails because of a swap.
    fn named(&self, headers: &HeaderMap) -> Option<&Side<R>> {
        if !self.header_override {
            return None;
        }
        let name = headers.get(REVISION)?.as_bytes();
        if name == Label::MAIN.as_bytes() || name == self.main.id.as_bytes() {
            return Some(&self.main);
        }
        let is_named =
            |labelled: &&Labelled<R>| name == labelled.label.as_str().as_bytes() || name == labelled.side.id.as_bytes();
        self.labelled.iter().find(is_named).map(|labelled| &labelled.side)
    }

    /// The point of the client that the request belongs to, the same each time.
    fn kept(&self, headers: &HeaderMap) -> Option<u64> {
        let value = match self.sticky.as_ref()? {
            Sticky::Header(name) => headers.get(name)?.as_bytes(),
            Sticky::Cookie(name) => cookie(headers, name)?,
        };
        // One that is empty says nothing of anybody.
        let value = Some(value.trim_ascii()).filter(|value| !value.is_empty())?;
        let hash: [u8; 32] = self.seed.clone().chain_update(value).finalize().into();
        hash.first_chunk().map(|head| u64::from(u32::from_be_bytes(*head)))
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let all = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    all.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PICKS: u32 = 100_000;

    fn split(text: &str, live: &[&'static str]) -> Split<&'static str> {
        let side = |name: &'static str| Side { id: HeaderValue::from_str(&format!("{name:0>12}")).unwrap(), revision: name };
        let labelled = live.iter().map(|label| (Label::parse(label).unwrap(), side(label)));
        Split::new(&ServiceName::parse("orders").unwrap(), side("main"), labelled, &toml::from_str(text).unwrap())
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    /// Who got how many percent of `PICKS`.
    fn shares<'a>(picks: impl Iterator<Item = &'a &'static str>) -> BTreeMap<&'static str, f64> {
        let mut counts = BTreeMap::new();
        picks.for_each(|name| *counts.entry(*name).or_insert(0.0) += 100.0 / f64::from(PICKS));
        counts
    }

    fn assert_close(found: &BTreeMap<&'static str, f64>, expected: &[(&str, f64)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (name, share) in expected {
            assert!((found[name] - share).abs() < 1.0, "{name}: {share} expected in {found:?}");
        }
    }

    #[test]
    fn chance_keeps_to_the_shares_within_one_percent() {
        let split = split("next = 30\nbeta = 10\nlast = 5\nmissing = 20", &["beta", "next", "last"]);
        let none = HeaderMap::new();
        let found = shares((0..PICKS).map(|_| split.pick(&none)));
        assert_close(&found, &[("main", 55.0), ("next", 30.0), ("beta", 10.0), ("last", 5.0)]);
    }

    #[test]
    fn clients_are_shared_out_within_one_percent_and_keep_their_revision() {
        let split = split("sticky = 'header:x-user'\nbeta = 10\nnext = 30", &["beta", "next"]);
        let users: Vec<_> = (0..PICKS).map(|user| headers("x-user", &format!("user-{user}"))).collect();
        let found = shares(users.iter().map(|user| split.pick(user)));
        assert_close(&found, &[("main", 60.0), ("beta", 10.0), ("next", 30.0)]);
        assert!(users.iter().take(1000).all(|user| split.pick(user) == split.pick(user)));
    }

    #[test]
    fn whoever_is_on_a_label_stays_there_when_shares_grow() {
        let at = |beta: u32, next: u32| split(&format!("sticky = 'cookie:id'\nnext = {next}\nbeta = {beta}"), &["beta", "next"]);
        let steps = [at(0, 0), at(10, 0), at(10, 20), at(30, 20), at(30, 70)];
        for user in 0..10_000 {
            let user = headers("cookie", &format!("theme=dark; id={user}"));
            let picks: Vec<_> = steps.iter().map(|split| *split.pick(&user)).collect();
            assert!(picks.windows(2).all(|pair| pair[0] == "main" || pair[0] == pair[1]), "{picks:?}");
        }
    }

    #[test]
    fn none_and_all_are_exact() {
        let (none, all) = (split("beta = 0", &["beta"]), split("beta = 100", &["beta"]));
        for _ in 0..1000 {
            assert_eq!((*none.pick(&HeaderMap::new()), *all.pick(&HeaderMap::new())), ("main", "beta"));
        }
    }

    #[test]
    fn a_request_picks_by_name_only_where_it_may() {
        let open = split("beta = 0\nheader_override = true", &["beta"]);
        let shut = split("beta = 0", &["beta"]);
        for (asked, expected) in
            [("beta", "beta"), ("00000000beta", "beta"), ("main", "main"), ("000000000000", "main"), ("", "main")]
        {
            assert_eq!(*open.pick(&headers("x-hotbay-revision", asked)), expected, "{asked}");
            assert_eq!(*shut.pick(&headers("x-hotbay-revision", asked)), "main", "{asked}");
        }
        let all = split("beta = 100\nheader_override = true", &["beta"]);
        assert_eq!(*all.pick(&headers("x-hotbay-revision", "00000000main")), "main");
        assert_eq!(*all.pick(&headers("x-hotbay-revision", "retired")), "beta", "nobody has that name: by the shares");
    }

    #[test]
    fn a_client_without_a_name_is_picked_by_chance() {
        let split = split("sticky = 'cookie:id'\nbeta = 50", &["beta"]);
        for nobody in [HeaderMap::new(), headers("cookie", "id="), headers("cookie", "idea=1; grid=2")] {
            let picks: BTreeMap<_, _> = shares((0..1000).map(|_| split.pick(&nobody)));
            assert_eq!(picks.len(), 2, "{nobody:?}");
        }
    }
}
