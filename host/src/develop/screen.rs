//! What is printed: a line for each thing that happens, with the name of the service it happens to.

use super::took::Took;
use console::{AnsiCodeIterator, Color, Style};
use hotbay::{
    config::ServiceName,
    telemetry::{GuestLevel, GuestLine},
};
use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

/// Colours of services, one after another; red is for what goes wrong.
const COLOURS: [Color; 6] = [Color::Cyan, Color::Magenta, Color::Blue, Color::Yellow, Color::Green, Color::White];

/// Columns of a name, where none is longer.
const NAME_MIN: usize = 8;
/// Names that are longer move what follows.
const NAME_MAX: usize = 24;

/// What separates the compiler's and the guest's own words from ours.
const BAR: &str = "│";

/// Makes the lines. They end with a line break.
pub(super) struct Screen {
    colours: bool,
    /// The clock on the wall, for tests to stop.
    clock: fn() -> String,
    width: usize,
    given: BTreeMap<String, Color>,
}

/// One service at the start.
pub(super) struct Row<'a> {
    pub(super) name: &'a ServiceName,
    /// Where it answers, or will.
    pub(super) address: String,
    /// How it is built.
    pub(super) built: String,
    pub(super) folder: &'a Path,
}

/// The steps from a save to the answer of the new code.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Steps {
    pub(super) build: Duration,
    pub(super) check: Duration,
    pub(super) compile: Duration,
    pub(super) swap: Duration,
    pub(super) whole: Duration,
}

impl Screen {
    /// With or without colours.
    pub(super) fn new(colours: bool) -> Self {
        Self { colours, clock: || jiff::Zoned::now().strftime("%H:%M:%S").to_string(), width: NAME_MIN, given: BTreeMap::new() }
    }

    fn style(&self) -> Style {
        Style::new().force_styling(self.colours)
    }

    /// The services at the start, and what can be done.
    pub(super) fn start(&mut self, rows: &[Row<'_>], has_keys: bool) -> String {
        self.width = rows.iter().map(|row| row.name.as_str().len()).max().unwrap_or_default().clamp(NAME_MIN, NAME_MAX);
        let address = rows.iter().map(|row| row.address.len()).max().unwrap_or_default();
        let built = rows.iter().map(|row| row.built.len()).max().unwrap_or_default();
        let mut text = String::from("\n");
        for row in rows {
            let name = self.name(row.name.as_str());
            let folder = self.style().dim().apply_to(row.folder.display()).to_string();
            let _ = writeln!(text, "  {name}  {:address$}  {:built$}  {folder}", row.address, row.built);
        }
        if rows.is_empty() {
            text.push_str("  no service yet; make one with: hotbay new NAME\n");
        }
        if has_keys {
            let key = |key| self.style().bold().apply_to(key).to_string();
            let _ = writeln!(text, "\n  {} rebuild all · {} open in the browser · {} quit", key("r"), key("o"), key("q"));
        }
        text.push('\n');
        text
    }

    /// A new revision serves.
    pub(super) fn swapped(&mut self, service: &str, why: &str, steps: &Steps, revision: &str) -> String {
        let Steps { build, check, compile, swap, whole } = steps;
        let done = self.style().green().apply_to("✓").to_string();
        let revision = self.style().bold().apply_to(revision).to_string();
        let steps =
            format!("build {} · check {} · compile {} · swap {}", Took(*build), Took(*check), Took(*compile), Took(*swap));
        self.line(service, &format!("{done} {why}: {steps} → {revision} in {}", Took(*whole)))
    }

    /// Other settings serve.
    pub(super) fn settings_swapped(&mut self, service: &str, revision: &str, whole: Duration) -> String {
        let done = self.style().green().apply_to("✓").to_string();
        self.line(service, &format!("{done} settings → {revision} in {}", Took(whole)))
    }

    /// Something about a service that went as it should.
    pub(super) fn note(&mut self, service: &str, text: &str) -> String {
        self.line(service, text)
    }

    /// Something about a service that did not, in `words` that may be many lines.
    pub(super) fn failed(&mut self, service: &str, what: &str, words: &str) -> String {
        let mark = self.style().red().apply_to("✗").to_string();
        let what = self.style().red().apply_to(plain(what)).to_string();
        let mut text = self.line(service, &format!("{mark} {what}"));
        self.words(words, Color::Red, &mut text);
        text
    }

    /// A build that its tools have something to say about.
    pub(super) fn warned(&mut self, service: &str, words: &str) -> String {
        let what = self.style().yellow().apply_to("built with warnings").to_string();
        let mut text = self.line(service, &what);
        self.words(words, Color::Yellow, &mut text);
        text
    }

    fn words(&self, words: &str, colour: Color, text: &mut String) {
        let bar = self.style().fg(colour).apply_to(BAR).to_string();
        for line in words.lines() {
            // A compiler's colours are kept where there are any at all.
            let line = if self.colours { coloured(line) } else { plain(line) };
            let _ = writeln!(text, "  {bar} {line}");
        }
    }

    /// A build or settings that will not serve.
    pub(super) fn rejected(&mut self, service: &str, reason: &str, remedy: &str, still: &str) -> String {
        let words = format!("{reason}\n→ {remedy}");
        self.failed(service, &format!("rejected; {still}"), &words)
    }

    /// What a guest writes.
    pub(super) fn guest(&mut self, line: &GuestLine) -> String {
        let bar = self.style().fg(self.colour(&line.service)).apply_to(BAR).to_string();
        let text = plain(&line.text);
        let text = match line.level {
            GuestLevel::Error | GuestLevel::Critical => self.style().red().apply_to(text).to_string(),
            GuestLevel::Warn => self.style().yellow().apply_to(text).to_string(),
            GuestLevel::Trace | GuestLevel::Debug => self.style().dim().apply_to(text).to_string(),
            GuestLevel::Info => text,
        };
        self.line(&line.service, &format!("{bar} {text}"))
    }

    /// Something that is about no service: of the host itself.
    pub(super) fn host(&mut self, text: &str, is_wrong: bool) -> String {
        // Of several lines each is one of its own.
        let shown = |line: &str| if is_wrong { self.style().yellow().apply_to(plain(line)).to_string() } else { plain(line) };
        let lines: Vec<_> = text.lines().map(shown).collect();
        lines.iter().map(|line| self.line("", line)).collect()
    }

    fn line(&mut self, service: &str, text: &str) -> String {
        let clock = self.style().dim().apply_to((self.clock)()).to_string();
        format!("{clock}  {}  {text}\n", self.name(service))
    }

    fn name(&mut self, service: &str) -> String {
        let width = self.width;
        let padded = format!("{service:width$}");
        self.style().fg(self.colour(service)).apply_to(padded).to_string()
    }

    fn colour(&mut self, service: &str) -> Color {
        let next = COLOURS.get(self.given.len() % COLOURS.len()).copied().unwrap_or(Color::White);
        *self.given.entry(service.to_owned()).or_insert(next)
    }
}

/// Without what a terminal obeys.
fn plain(text: &str) -> String {
    without_control(&console::strip_ansi_codes(text))
}

/// The same, but with its colours.
fn coloured(text: &str) -> String {
    let part = |(part, is_escape): (&str, bool)| match is_escape {
        true if sets_colours(part) => part.to_owned(),
        true => String::new(),
        false => without_control(part),
    };
    AnsiCodeIterator::new(text).map(part).collect()
}

/// Whether an escape sequence is SGR of ECMA-48: it says how what follows looks, and nothing else.
fn sets_colours(escape: &str) -> bool {
    let parameters = escape.strip_prefix("\x1b[").and_then(|rest| rest.strip_suffix('m'));
    parameters.is_some_and(|parameters| parameters.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

fn without_control(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotbay::telemetry::GuestStream;
    use std::time::SystemTime;

    fn screen(colours: bool) -> Screen {
        Screen { clock: || "12:00:00".to_owned(), ..Screen::new(colours) }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_start_is_a_table_with_the_keys_below() {
        let (hello, orders) = (ServiceName::parse("hello").unwrap(), ServiceName::parse("order-book").unwrap());
        let row =
            |name, address: &str, built: &str, folder| Row { name, address: address.to_owned(), built: built.to_owned(), folder };
        let rows = [
            row(&hello, "http://127.0.0.1:8080/hello", "rust", Path::new("a/hello")),
            row(&orders, "http://127.0.0.1:8080/order-book", "python", Path::new("b")),
        ];
        assert_eq!(
            screen(false).start(&rows, true),
            "\n  hello       http://127.0.0.1:8080/hello       rust    a/hello\n  order-book  http://127.0.0.1:8080/order-book  python  b\n\n  \
             r rebuild all · o open in the browser · q quit\n\n"
        );
        assert!(screen(false).start(&[], false).contains("hotbay new"));
    }

    #[test]
    fn a_swap_is_one_line_with_its_steps() {
        let steps = Steps {
            build: millis(812),
            check: millis(3),
            compile: millis(61),
            swap: Duration::from_micros(2_400),
            whole: millis(1_879),
        };
        let line = screen(false).swapped("hello", "src/lib.rs", &steps, "1a2b3c4d5e6f");
        assert_eq!(
            line,
            "12:00:00  hello     ✓ src/lib.rs: build 812 ms · check 3.0 ms · compile 61 ms · swap 2.4 ms → 1a2b3c4d5e6f in 1.9 s\n"
        );
    }

    #[test]
    fn failures_have_their_words_below() {
        let line =
            screen(false).failed("hello", "build failed in 0.4 s; aa serves on", "error[E0425]: no `x`\n --> src/lib.rs:3\n");
        assert_eq!(
            line,
            "12:00:00  hello     ✗ build failed in 0.4 s; aa serves on\n  │ error[E0425]: no `x`\n  │  --> src/lib.rs:3\n"
        );
        assert!(
            screen(false)
                .rejected("hello", "it is text", "build it", "aa serves on")
                .ends_with("  │ it is text\n  │ → build it\n")
        );
    }

    fn guest(level: GuestLevel, text: &str) -> GuestLine {
        GuestLine {
            at: SystemTime::now(),
            service: "hello".to_owned(),
            revision: "0".repeat(12),
            request_id: "7".to_owned(),
            stream: GuestStream::Stdout,
            level,
            context: String::new(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn guests_and_compilers_do_not_command_the_terminal() {
        let line = screen(false).guest(&guest(GuestLevel::Info, "a\x1b[2Jb\x07c\td"));
        assert_eq!(line, "12:00:00  hello     │ ab\u{fffd}c\td\n");
        let failed = screen(false).failed("hello", "build failed", "\x1b[31merror\x1b[0m\x07");
        assert!(failed.ends_with("  │ error\u{fffd}\n"), "{failed:?}");
        let failed = screen(true).failed(
            "hello",
            "build failed",
            "\x1b[1m\x1b[38;5;9merror\x1b[0m\x1b[2J\x1b[3A\x1b]52;c;AAAA\x07\u{9b}2J",
        );
        let words = failed.lines().last().unwrap();
        assert!(words.contains("\x1b[1m\x1b[38;5;9merror\x1b[0m"), "{words:?}");
        let escapes: Vec<_> = AnsiCodeIterator::new(words).filter(|(_, is_escape)| *is_escape).map(|(part, _)| part).collect();
        assert!(escapes.iter().all(|escape| escape.ends_with('m')) && !words.contains(['\x07', '\u{9b}']), "{words:?}");
    }

    #[test]
    fn every_service_has_a_colour_of_its_own_and_keeps_it() {
        let mut screen = screen(true);
        let first = screen.note("one", "x");
        assert!(first.contains("\x1b[36mone"), "{first:?}");
        assert_ne!(screen.note("two", "x").replace("two", "one"), first);
        assert_eq!(screen.note("one", "x"), first);
        assert!(screen.guest(&guest(GuestLevel::Error, "broken")).contains("\x1b[31mbroken"));
        assert!(!self::screen(false).note("one", "x").contains('\x1b'));
    }
}
