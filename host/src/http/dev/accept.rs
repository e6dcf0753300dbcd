//! Whether a client would rather have a page than a problem: its `Accept` (RFC 9110 §12.5.1).

use http::{HeaderMap, header};

/// The page that there is.
const PAGE: (&str, &str) = ("text", "html");
/// The problem, and what it is as well.
const PROBLEM: (&str, &str) = ("application", "problem+json");
const JSON: (&str, &str) = ("application", "json");

/// Whether `text/html` is preferred to a problem. Of two that are liked the same, the one that is named wins over the one that a
/// `*` stands for, and then the problem: who asks for anything is no browser.
pub(super) fn prefers_page(headers: &HeaderMap) -> bool {
    let ranges: Vec<Range> = accepted(headers).filter_map(Range::parse).collect();
    let page = liking(&ranges, PAGE);
    let problem = liking(&ranges, PROBLEM).max(liking(&ranges, JSON));
    page.quality > 0 && page > problem
}

/// Whether the client names `text/html` itself, as a browser does for what it will show.
pub(super) fn names_page(headers: &HeaderMap) -> bool {
    accepted(headers).filter_map(Range::parse).any(|range| range.precision(PAGE) == Some(2) && range.quality > 0)
}

fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| parts(value, ','))
}

/// One media range and how much it is liked.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// Of 1000.
    quality: u16,
}

/// How much a media type is liked, and by how precise a range.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    quality: u16,
    precision: u8,
}

/// The most precise range for a type says how much it is liked, whatever the others say.
fn liking(ranges: &[Range<'_>], media: (&str, &str)) -> Liking {
    let of = |range: &Range<'_>| Some(Liking { precision: range.precision(media)?, quality: range.quality });
    ranges.iter().filter_map(of).max_by_key(|liking| (liking.precision, liking.quality)).unwrap_or_default()
}

impl<'a> Range<'a> {
    /// None where it is no range, and where it has parameters: they ask for a variant that there is not.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = parts(text, ';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for part in parts {
            match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some((name, value)) if name.eq_ignore_ascii_case("q") => {
                    quality = parsed(value)?;
                    // What follows the weight belonged to no type even while it was allowed.
                    break;
                }
                Some((name, value))
                    if name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8") => {}
                None if part.is_empty() => {}
                _ => return None,
            }
        }
        Some(Self { kind, subtype, quality })
    }

    /// How precisely it means this type; none where it does not.
    fn precision(&self, (kind, subtype): (&str, &str)) -> Option<u8> {
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (mine, "*") if mine.eq_ignore_ascii_case(kind) => Some(1),
            (mine, part) if mine.eq_ignore_ascii_case(kind) && part.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// A weight, `0` to `1` with at most three digits behind the dot, in thousandths.
fn parsed(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// The parts between `mark`s that do not stand in quotation marks.
fn parts(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let (was_escaped, was_quoted) = (escaped, quoted);
        escaped = quoted && character == '\\' && !was_escaped;
        if character == '"' && !was_escaped {
            quoted = !quoted;
        }
        !was_quoted && character == mark
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_browser_gets_a_page_and_others_a_problem() {
        for page in [
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"][..],
            &["text/html"],
            &["TEXT/HTML ; Q=0.5 , application/json;q=0.4"],
            &["text/*, */*;q=0.1"],
            &["text/html, */*"],
            &["application/json;q=0.2", "text/html;q=0.3"],
            &["text/html;charset=UTF-8"],
            &["*/*, application/json;q=0, application/problem+json;q=0.5"],
            &["text/plain;x=\"a,b;q=0\", text/html;q=0.001"],
        ] {
            assert!(prefers_page(&headers(page)), "{page:?}");
        }
        for problem in [
            &[][..],
            &["*/*"],
            &[""],
            &["application/json"],
            &["application/problem+json, text/html"],
            &["text/html, application/json"],
            &["text/html;q=0.8, application/json"],
            &["text/html;q=0, */*"],
            &["text/html;level=1"],
            &["text/html;q=2"],
            &["text/html;q=0.1234"],
            &["image/png"],
            &["text/*;q=0.5, */*"],
            &["html"],
            &["text/plain;x=\"a, text/html\""],
        ] {
            assert!(!prefers_page(&headers(problem)), "{problem:?}");
        }
    }

    #[test]
    fn who_takes_anything_names_no_page() {
        assert!(names_page(&headers(&["image/png, text/html;q=0.1"])));
        for not in [&["*/*"][..], &["text/*"], &["text/html;q=0"], &[]] {
            assert!(!names_page(&headers(not)), "{not:?}");
        }
    }
}
