//! An error as a page in the browser: what went wrong and what to do first, then where, then what was asked.

use super::{frame::Frame, html::Text};
use crate::dispatch::{Asked, Building, Details, FirstBuild, HIDDEN, Problem, Rejected};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use sha2::{Digest, Sha256};
use std::{
    fmt::{self, Write},
    sync::LazyLock,
};

const STYLE: &str = include_str!("page.css");

/// What the page may do: show itself with its own style, run its own script and ask where it came from. Nothing that a guest said
/// could load, run or send anything, even if it were markup.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'",
        hash(STYLE),
        hash(super::reload::SCRIPT_TEXT)
    );
    // Base64 and quotation marks are always a header value.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// `Content-Security-Policy` of pages.
pub(super) fn policy() -> HeaderValue {
    POLICY.clone()
}

/// What a page is made of.
pub(super) struct Page<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) details: &'a Details,
    pub(super) service: Option<&'a str>,
    pub(super) revision: Option<&'a str>,
    pub(super) request_id: &'a str,
    /// What its script waits for, and the sign of what was there; none where it stays as it is.
    pub(super) reload: Option<(String, String)>,
}

impl Page<'_> {
    /// The page.
    pub(super) fn written(&self) -> String {
        let mut page = String::with_capacity(16 << 10);
        // A String takes all that is written to it.
        let _ = self.write(&mut page);
        page
    }

    /// The guest's own words where it had some, the host's where not.
    fn headline(&self) -> &str {
        if let Some(build) = &self.details.build {
            return match build.state {
                Building::UnderWay => "The service is being built.",
                Building::Failed => "The build of the service failed.",
            };
        }
        self.details.failure.as_ref().map_or(self.problem.detail(), |failure| &failure.message)
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        let (status, title) = (self.problem.status().as_u16(), self.problem.title());
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{status} {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
            Text(self.headline().lines().next().unwrap_or(title))
        )?;
        write!(page, "<p class=\"status\"><b>{status}</b> <span>{title}</span>")?;
        if let Some(service) = self.service {
            write!(page, " <span>·</span> <span>{}</span>", Text(service))?;
        }
        writeln!(page, "</p>\n<h1>{}</h1>", Text(self.headline()))?;
        if let Some(at) = self.details.failure.as_ref().and_then(|failure| failure.at.as_deref()) {
            writeln!(page, "<p class=\"at\"><code>{}</code></p>", Text(at))?;
        }
        writeln!(page, "<p class=\"reason\">{}</p>", Text(&self.details.reason))?;
        if let Some(FirstBuild { output, .. }) = &self.details.build {
            write_lines(page, "What its tools say", output)?;
        }
        self.write_help(page)?;
        write_frames(page, &self.details.backtrace)?;
        write_lines(page, "Its last lines", &self.details.output)?;
        self.write_routes(page)?;
        if let Some(asked) = &self.details.request {
            write_request(page, asked)?;
        }
        self.write_footer(page)
    }

    fn write_help(&self, page: &mut String) -> fmt::Result {
        for denial in &self.details.denied {
            let (service, reason) = (Text(&denial.service), Text(&denial.reason));
            let (capability, destination) = (denial.capability, Text(&denial.destination));
            let verb = if capability == super::UNSET { "Not set" } else { "Denied" };
            write!(
                page,
                "<div class=\"help\"><b>{verb}:</b> {service} asked for {capability} <code>{destination}</code>: {reason}."
            )?;
            if let Some(grant) = &denial.grant {
                let place =
                    format_args!("below <code>[grants]</code> in {service}.toml, where a line of that name is in its place");
                write!(page, " To allow it, put this {place}:<pre>{}</pre>", Text(grant))?;
            }
            page.push_str("</div>\n");
        }
        if let Some(Rejected { reason, remedy }) = &self.details.rejected {
            write!(page, "<div class=\"help\"><b>The last build was rejected:</b> {}.", Text(reason.trim_end_matches('.')))?;
            writeln!(page, "<br><b>To do:</b> {}.</div>", Text(remedy.trim_end_matches('.')))?;
        }
        let remedy = &self.details.remedy;
        let of_reject = self.details.rejected.as_ref().is_some_and(|rejected| rejected.remedy == *remedy);
        let of_denial = self.details.denied.iter().filter_map(|denial| denial.grant.as_ref()).any(|grant| remedy.contains(grant));
        if !of_reject && !of_denial {
            writeln!(page, "<div class=\"help\"><b>To do:</b> {}.</div>", Text(remedy.trim_end_matches('.')))?;
        }
        Ok(())
    }

    fn write_routes(&self, page: &mut String) -> fmt::Result {
        if self.details.routes.is_empty() {
            return Ok(());
        }
        page.push_str("<section>\n<h2>Routes, the nearest first</h2>\n<ul class=\"routes card\">\n");
        for route in &self.details.routes {
            let text = Text(route);
            // One that holds for every host and has no parameter can be followed from here.
            if route.starts_with('/') && !route.contains('{') {
                writeln!(page, "<li><a href=\"{text}\"><code>{text}</code></a></li>")?;
            } else {
                writeln!(page, "<li><code>{text}</code></li>")?;
            }
        }
        page.push_str("</ul>\n</section>\n");
        Ok(())
    }

    fn write_footer(&self, page: &mut String) -> fmt::Result {
        write!(page, "<footer>Request {}", Text(self.request_id))?;
        if let Some(revision) = self.revision {
            write!(page, " · revision {}", Text(revision))?;
        }
        page.push_str(" · shown because the host runs with --dev");
        if self.reload.is_some() {
            page.push_str(" · loads itself again as soon as there is something new to see");
        }
        page.push_str("</footer>\n</main>\n");
        if let Some((awaited, seen)) = &self.reload {
            let (awaited, seen, script) = (Text(awaited), Text(seen), super::reload::SCRIPT_TEXT);
            writeln!(page, "<script data-watch=\"{awaited}\" data-seen=\"{seen}\">{script}</script>")?;
        }
        page.push_str("</body>\n</html>\n");
        Ok(())
    }
}

/// The service's own functions as they are; those between them, of which nobody can mend anything, folded.
fn write_frames(page: &mut String, backtrace: &[String]) -> fmt::Result {
    if backtrace.is_empty() {
        return Ok(());
    }
    let frames: Vec<Frame<'_>> = backtrace.iter().map(|line| Frame::read(line)).collect();
    let none_is_own = frames.iter().all(|frame| !frame.is_own);
    page.push_str("<section>\n<h2>Where, innermost first</h2>\n<div class=\"card\">\n");
    for run in frames.chunk_by(|a, b| a.is_own == b.is_own) {
        match run {
            [first, ..] if first.is_own => {
                page.push_str("<ol class=\"frames\">\n");
                run.iter().try_for_each(|frame| write_frame(page, frame, "own"))?;
                page.push_str("</ol>\n");
            }
            _ => {
                let open = if none_is_own { " open" } else { "" };
                let count = run.len();
                let what = if count == 1 { "function" } else { "functions" };
                writeln!(page, "<details{open}><summary>{count} {what} of the standard library and the glue</summary>")?;
                page.push_str("<ol class=\"frames glue\">\n");
                run.iter().try_for_each(|frame| write_frame(page, frame, "of-others"))?;
                page.push_str("</ol></details>\n");
            }
        }
    }
    page.push_str("</div>\n");
    if frames.iter().all(|frame| frame.place.is_none()) {
        page.push_str(
            "<p class=\"reason\">Files and lines are missing: the build has no debug information. Rust has it with \
             <code>debug = \"line-tables-only\"</code> in the profile, and no <code>strip</code>.</p>\n",
        );
    }
    page.push_str("</section>\n");
    Ok(())
}

fn write_frame(page: &mut String, frame: &Frame<'_>, class: &str) -> fmt::Result {
    write!(page, "<li class=\"{class}\"><code>{}</code>", Text(frame.function))?;
    if let Some(place) = frame.place {
        write!(page, "<span>{}</span>", Text(place))?;
    }
    page.push_str("</li>\n");
    Ok(())
}

fn write_lines(page: &mut String, title: &str, output: &[String]) -> fmt::Result {
    if output.is_empty() {
        return Ok(());
    }
    write!(page, "<section>\n<h2>{title}</h2>\n<pre class=\"card\">")?;
    for line in output.iter().skip_while(|line| line.trim().is_empty()) {
        writeln!(page, "{}", Text(line))?;
    }
    page.push_str("</pre>\n</section>\n");
    Ok(())
}

fn write_request(page: &mut String, Asked { method, target, headers }: &Asked) -> fmt::Result {
    let (method, target) = (Text(method), Text(target));
    writeln!(page, "<section>\n<h2>The request</h2>\n<div class=\"card\"><code>{method} {target}</code>")?;
    writeln!(page, "<details><summary>{} headers</summary>\n<dl>", headers.len())?;
    for (name, value) in headers {
        let class = if value == HIDDEN { " class=\"glue\"" } else { "" };
        writeln!(page, "<dt>{}</dt><dd{class}>{}</dd>", Text(name), Text(value))?;
    }
    page.push_str("</dl></details></div>\n</section>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Denial;
    use http::StatusCode;

    const EVIL: &str = "</style><script>alert('1')</script>\"";

    fn evil_details() -> Details {
        let evil = || EVIL.to_owned();
        let asked = Asked { method: evil(), target: evil(), headers: vec![(evil(), evil())] };
        let denial = Denial { service: evil(), capability: "http", destination: evil(), reason: evil(), grant: Some(evil()) };
        let output = vec![evil(), "thread 'main' panicked at <a>:1:2:".to_owned(), evil()];
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Title", "Detail.", "mend it").because(EVIL);
        Details {
            denied: vec![denial],
            backtrace: vec![evil(), format!("{EVIL} at {EVIL}:7"), "std::rt".to_owned()],
            routes: vec![format!("/{EVIL}"), "/{id}".to_owned()],
            request: Some(asked),
            ..problem.details(output)
        }
    }

    #[test]
    fn whatever_a_stranger_says_is_text() {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Title", "Detail.", "mend it");
        let mut details = evil_details();
        let page = |details: &Details| {
            let reload = Some((EVIL.to_owned(), EVIL.to_owned()));
            let (service, revision, request_id) = (Some(EVIL), Some(EVIL), EVIL);
            Page { problem: &problem, details, service, revision, request_id, reload }.written()
        };
        for state in [Building::UnderWay, Building::Failed] {
            let build = FirstBuild { state, output: vec![EVIL.to_owned()] };
            let page = page(&Details { build: Some(build), ..details.clone() });
            assert!(!page.contains("alert('1')") && page.contains("What its tools say"), "{page}");
        }
        for rejected in [None, Some(Rejected { reason: EVIL.to_owned(), remedy: EVIL.to_owned() })] {
            details.rejected = rejected;
            let page = page(&details);
            assert!(!page.contains("alert('1')") && page.contains("&lt;script&gt;alert(&#39;1&#39;)"), "{page}");
            assert_eq!((page.matches("<script").count(), page.matches("</style").count()), (1, 1), "only its own");
        }
    }

    #[test]
    fn the_message_comes_first_and_the_glue_is_folded() {
        let details = Details {
            failure: Some(crate::dispatch::LastWords { message: "it broke".to_owned(), at: Some("a.rs:1:2".to_owned()) }),
            backtrace: ["std::rt", "core::f", "orders::price at a.rs:1", "wasi:http#handle"].map(str::to_owned).to_vec(),
            ..Details::default()
        };
        let problem = Problem::new(StatusCode::BAD_GATEWAY, "Title", "Detail.", "mend it");
        let page = Page { problem: &problem, details: &details, service: None, revision: None, request_id: "id", reload: None }
            .written();
        assert!(page.contains("<h1>it broke</h1>\n<p class=\"at\"><code>a.rs:1:2</code>"), "{page}");
        assert!(page.contains("2 functions of the") && page.contains("1 function of the"), "{page}");
        assert!(page.contains("<li class=\"own\"><code>orders::price</code><span>a.rs:1</span>"), "{page}");
        assert!(!page.contains("<script") && !page.contains("debug information"), "{page}");
    }

    #[test]
    fn the_policy_has_the_hashes_of_what_is_in_the_page() {
        let policy = policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for text in [STYLE, super::super::reload::SCRIPT_TEXT] {
            assert!(!text.contains("</"), "it would end where it stands");
            assert!(policy.contains(&BASE64_STANDARD.encode(Sha256::digest(text))));
        }
    }
}
