//! `[[cron]]`: requests that the host itself makes of a service, by the clock.

use super::probe::Target;
use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fmt, sync::Arc, time::SystemTime};

/// `x-hotbay-cron`: the schedule by which the host makes a request. Nobody else may say it.
pub const CRON: HeaderName = HeaderName::from_static("x-hotbay-cron");

/// Entries of one service.
const ENTRIES_MAX: usize = 100;
/// Characters of a schedule.
const SCHEDULE_MAX: usize = 100;
/// Times of the day that a schedule may name for each of them to be one of its own where clocks change.
const TIMES_MAX: usize = 144;

/// One entry: when, and what is asked then. Entries that are equal are one and the same, whichever settings they stand in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronEntry {
    schedule: Schedule,
    #[serde(rename = "path")]
    target: Target,
    #[serde(default)]
    timezone: Zone,
    #[serde(default)]
    method: Asked,
}

impl CronEntry {
    /// The schedule as it is written.
    pub fn schedule(&self) -> &str {
        &self.schedule.text
    }

    /// The same as a header value.
    pub fn header(&self) -> &HeaderValue {
        &self.schedule.header
    }

    /// The IANA name of the time zone whose clocks the schedule goes by.
    pub fn timezone(&self) -> &str {
        &self.timezone.name
    }

    /// Path and query, as the guest sees them.
    pub fn target(&self) -> &PathAndQuery {
        self.target.as_path()
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method.0
    }

    /// Its first time after `moment`, to the second. None where there is none in the next thousands of years.
    ///
    /// Where clocks are set ahead, a time of the day that falls into the gap comes at the end of the gap; where they are set back,
    /// it comes the first of the two times. An entry with `*` or a step in its hours or minutes, or with more than 144 times a day,
    /// goes by time that passes.
    pub fn next(&self, moment: SystemTime) -> Option<SystemTime> {
        let from = Timestamp::try_from(moment).ok()?.to_zoned(self.timezone.zone.clone());
        let nexts = self.schedule.crons.iter().filter_map(|cron| cron.find_next_occurrence(&from, false).ok());
        nexts.map(|next| SystemTime::from(next.timestamp())).filter(|next| *next > moment).min()
    }
}

/// `POST /tick at */5 * * * * (UTC)`
impl fmt::Display for CronEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {} ({})", self.method(), self.target(), self.schedule(), self.timezone())
    }
}

/// All entries of one service.
pub(super) fn entries<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<[CronEntry]>, D::Error> {
    let entries = Vec::<CronEntry>::deserialize(input)?;
    if entries.len() > ENTRIES_MAX {
        return Err(D::Error::custom(format!("there are {} [[cron]] entries, at most {ENTRIES_MAX} are allowed", entries.len())));
    }
    for (position, entry) in entries.iter().enumerate() {
        if entries.iter().take(position).any(|earlier| earlier == entry) {
            return Err(D::Error::custom(format!("the [[cron]] entry `{entry}` is there twice; take one of them out")));
        }
    }
    Ok(entries.into())
}

/// When: five fields, or six with seconds in front, or a nickname.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
struct Schedule {
    text: String,
    header: HeaderValue,
    /// One for each time of the day where the text names them, and the text itself otherwise.
    crons: Arc<[Cron]>,
}

impl TryFrom<String> for Schedule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |reason: &str| {
            let shown: String = text.escape_debug().take(SCHEDULE_MAX).collect();
            format!(
                "the schedule `{shown}` is not understood: {reason}; write minute, hour, day of the month, month and day of the \
                 week, such as \"*/5 * * * *\" or \"30 4 * * MON-FRI\", or one of @hourly, @daily, @weekly, @monthly, @yearly"
            )
        };
        if text.len() > SCHEDULE_MAX {
            return Err(wrong("it is longer than 100 characters"));
        }
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || b" */,-#?@+".contains(&byte);
        if !text.bytes().all(usual) {
            return Err(wrong("it holds a character that no schedule has"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = match parser.parse(&text) {
            Ok(cron) => cron,
            Err(error) => return Err(wrong(&reason_of(&text, error))),
        };
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        if cron.find_next_occurrence(&now, false).is_err() {
            return Err(wrong("no date is one of its times"));
        }
        let header = HeaderValue::from_str(&text).map_err(|_| wrong("it holds a character that no schedule has"))?;
        let texts = times_of_day(&text).unwrap_or_default();
        let mut crons: Vec<_> = texts.iter().filter_map(|text| parser.parse(text).ok()).collect();
        if crons.is_empty() {
            crons.push(cron);
        }
        Ok(Self { text, header, crons: crons.into() })
    }
}

/// A schedule for each time of the day, where `text` names them by lists and ranges: croner takes only a single one for a time of the
/// day, which a change of the clocks neither loses nor doubles, and all else for time that passes.
fn times_of_day(text: &str) -> Option<Vec<String>> {
    let fields: Vec<_> = text.split_whitespace().collect();
    let (times, days) = fields.split_at_checked(fields.len().checked_sub(3)?)?;
    let mut texts = vec![String::new()];
    for field in times {
        let values = values_of(field)?;
        if texts.len() * values.len() > TIMES_MAX {
            return None;
        }
        texts = texts.iter().flat_map(|text| values.iter().map(move |value| format!("{text}{value} "))).collect();
    }
    let days = days.join(" ");
    texts.iter_mut().for_each(|text| text.push_str(&days));
    Some(texts)
}

/// What a field of numbers, lists and ranges stands for; none where it holds anything else.
fn values_of(field: &str) -> Option<Vec<u8>> {
    let mut values = Vec::new();
    for part in field.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        values.extend(first.parse::<u8>().ok()?..=last.parse().ok()?);
    }
    (values.len() <= TIMES_MAX).then_some(values)
}

/// What is wrong, in a few words.
fn reason_of(text: &str, error: CronError) -> String {
    match (text.split_whitespace().count(), error) {
        (0, _) => "it is empty".to_owned(),
        (1, _) if text.contains('@') => "there is no such nickname".to_owned(),
        (count, _) if !(5..=6).contains(&count) => format!("it has {count} fields"),
        (_, CronError::IllegalCharacters(words) | CronError::ComponentError(words) | CronError::InvalidPattern(words)) => {
            words.trim_end_matches('.').to_owned()
        }
        (_, error) => error.to_string().trim_end_matches('.').to_owned(),
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A time zone: of the system's database, or of the one in this binary where the system does not have it.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
struct Zone {
    name: String,
    zone: TimeZone,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name == "UTC" {
            return Ok(Self::default());
        }
        let bundled = TimeZoneDatabase::bundled();
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-+".contains(&byte);
        let found = if name.bytes().all(usual) { jiff::tz::db().get(&name).or_else(|_| bundled.get(&name)).ok() } else { None };
        if let Some(zone) = found
            && let Some(known) = zone.iana_name().map(str::to_owned)
        {
            return Ok(Self { name: known, zone });
        }
        let likeness = |known: &str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &name.to_ascii_lowercase());
        let near = bundled.available().map(|known| known.as_str().to_owned()).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let near = near.filter(|near| likeness(near) > 0.8).map(|near| format!("did you mean `{near}`? "));
        let shown: String = name.escape_debug().take(60).collect();
        Err(format!(
            "`{shown}` is no time zone; {}write a name of the IANA database, such as \"Europe/Berlin\"",
            near.unwrap_or_default()
        ))
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The method of a request without a body of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Asked(Method);

impl Default for Asked {
    /// What comes by the clock changes something, and must not be what a crawler or a cache can set off.
    fn default() -> Self {
        Self(Method::POST)
    }
}

impl TryFrom<String> for Asked {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = [Method::POST, Method::GET, Method::PUT, Method::PATCH, Method::DELETE];
        let unfit = || format!("the method `{}` is none of POST, GET, PUT, PATCH and DELETE", text.escape_debug());
        known.into_iter().find(|method| method.as_str() == text).map(Self).ok_or_else(unfit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::select};

    fn entry(text: &str) -> Result<CronEntry, String> {
        toml::from_str(&format!("path = '/tick'\n{text}")).map_err(|error| error.message().to_owned())
    }

    /// The next `count` times after `from`, in UTC.
    fn times(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let entry = entry(&format!("schedule = '{schedule}'\ntimezone = '{zone}'")).unwrap();
        let from = SystemTime::from(from.parse::<Timestamp>().unwrap());
        let times = std::iter::successors(entry.next(from), |time| entry.next(*time)).take(count);
        times.map(|time| Timestamp::try_from(time).unwrap().to_string()).collect()
    }

    #[test]
    fn all_but_schedule_and_path_has_a_default() {
        let entry = entry("schedule = '*/5 * * * *'").unwrap();
        assert_eq!(entry.to_string(), "POST /tick at */5 * * * * (UTC)");
        assert!(toml::from_str::<CronEntry>("schedule = '@daily'").is_err());
        assert!(toml::from_str::<CronEntry>("path = '/'").is_err());
    }

    #[test]
    fn what_is_no_schedule_says_why_and_what_is_one() {
        let many = format!("{}1 * * * *", "1,".repeat(60));
        for (schedule, named) in [
            ("", "it is empty"),
            ("61 * * * *", "out of bounds"),
            ("* * * *", "4 fields"),
            ("* * * * * * *", "7 fields"),
            ("@often", "no such nickname"),
            ("*/0 * * * *", "0"),
            ("0 0 30 2 *", "no date"),
            ("é * * * *", "no schedule has"),
            ("monday", "1 fields"),
            (many.as_str(), "longer than"),
        ] {
            let error = entry(&format!("schedule = '{schedule}'")).unwrap_err();
            assert!(error.contains(named) && error.contains("@hourly"), "{schedule}: {error}");
        }
        for (text, named) in [
            ("timezone = 'Europe/Berln'", "did you mean `Europe/Berlin`?"),
            ("timezone = '../../etc/passwd'", "is no time zone"),
            ("timezone = ''", "is no time zone"),
            ("method = 'post'", "none of POST"),
            ("timezoen = 'UTC'", "unknown field"),
        ] {
            let error = entry(&format!("schedule = '@daily'\n{text}")).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is written: words, or times that go on.
        #[test]
        fn any_text_is_a_schedule_or_an_error(
            fields in vec("[*0-9]{1,3}([-/,][0-9*]{1,3}){0,2}[LW#?]{0,1}|[A-Z@+]{1,4}", 1..8),
            zone in select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
        ) {
            let text = fields.join(" ");
            match entry(&format!("schedule = '{text}'\ntimezone = '{zone}'")) {
                Err(error) => prop_assert!(error.contains("is not understood"), "{error}"),
                Ok(entry) => {
                    let now = SystemTime::now();
                    prop_assert!(entry.next(now).is_some_and(|next| next > now), "{entry}");
                }
            }
        }
    }

    #[test]
    fn times_are_those_of_the_text() {
        let from = "2026-11-25T10:02:30Z";
        assert_eq!(times("*/5 * * * *", "UTC", from, 2), ["2026-11-25T10:05:00Z", "2026-11-25T10:10:00Z"]);
        assert_eq!(times("*/20 * * * * *", "UTC", from, 2), ["2026-11-25T10:02:40Z", "2026-11-25T10:03:00Z"]);
        assert_eq!(times("@hourly", "UTC", from, 1), ["2026-11-25T11:00:00Z"]);
        assert_eq!(times("0 12 29 2 *", "UTC", from, 1), ["2028-02-29T12:00:00Z"]);
        assert_eq!(times("0 9 * * MON-FRI", "America/New_York", from, 1), ["2026-11-25T14:00:00Z"]);
        assert_eq!(times("0 0 * * *", "Asia/Kolkata", from, 1), ["2026-11-25T18:30:00Z"]);
    }

    /// In Berlin clocks went from 02:00 to 03:00 on 2026-03-29, and from 03:00 back to 02:00 on 2026-10-25.
    #[test]
    fn a_change_of_the_clocks_neither_loses_nor_doubles_a_time_of_day() {
        let daily = |from| times("30 2 * * *", "Europe/Berlin", from, 3);
        let spring = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
        assert_eq!(daily("2026-03-28T00:00:00Z"), spring, "02:30 is not there: at 03:00, the first moment after");
        let autumn = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(daily("2026-10-24T00:00:00Z"), autumn, "02:30 is there twice: at the first");
        let noon = times("0 12 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(noon, ["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"]);
        let spring = |schedule| times(schedule, "Europe/Berlin", "2026-03-29T00:00:00Z", 2);
        let autumn = |schedule| times(schedule, "Europe/Berlin", "2026-10-25T00:15:00Z", 2);
        assert_eq!(spring("0 2,14 * * *"), ["2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z"], "a list");
        assert_eq!(autumn("30 2,14 * * *"), ["2026-10-25T00:30:00Z", "2026-10-25T13:30:00Z"]);
        assert_eq!(spring("0,30 2 * * *"), ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"], "two at the end of one gap are one");
        assert_eq!(spring("0 1-3 * * *"), ["2026-03-29T01:00:00Z", "2026-03-29T23:00:00Z"], "a range");
        assert_eq!(autumn("0 1-3 * * *"), ["2026-10-25T02:00:00Z", "2026-10-26T00:00:00Z"], "02:00 has come before");
        let steps = times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 6);
        let even = ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"].map(|time| format!("2026-10-25T{time}:00Z"));
        assert_eq!(steps, even, "steps go by time that passes");
    }

    #[test]
    fn an_entry_is_there_once() {
        #[derive(Debug, Deserialize)]
        struct Sample {
            #[serde(deserialize_with = "entries")]
            cron: Arc<[CronEntry]>,
        }
        let one = |path: &str| format!("[[cron]]\nschedule = '@daily'\npath = '{path}'\n");
        let read = |text: &str| toml::from_str::<Sample>(text);
        assert_eq!(read(&(one("/a") + &one("/b"))).unwrap().cron.len(), 2);
        assert!(read(&(one("/a") + &one("/a"))).unwrap_err().message().contains("there twice"));
        let many: String = (0..101).map(|n| one(&format!("/{n}"))).collect();
        assert!(read(&many).unwrap_err().message().contains("at most 100"));
    }
}
