//! A page of the documentation as its reader goes through it: what to type, what to write into a file, what is to be seen.
//!
//! What makes a step:
//! - a block ` ```sh `: commands, one a line. `# → TEXT` behind one is what it prints, `# exit code N` how it ends where that is not 0.
//! - the next block, if it is ` ```text ` or ` ```json `: what the last of these commands prints.
//! - a block without a name that begins with `$ `: somebody else's run, which is listed.
//! - another block below a line that ends with `` `PATH`: ``: a file to be written.
//! - comments, which readers do not see. `<!-- not run: REASON -->` before a block of commands; `<!-- run: COMMANDS -->` for what a reader has
//!   already; `<!-- needs: COMMAND -->`, without which the rest of the page is left out; `<!-- ctrl-c -->` ends what goes on running.

use anyhow::{Context, Result, bail, ensure};

/// Something to be done, and the line of the page that says so.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) action: Action,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Run(Typed),
    Write {
        path: String,
        text: String,
    },
    /// Commands that no test runs.
    Skip {
        reason: String,
        commands: String,
    },
    /// A command whose failure ends the page.
    Need(String),
    Interrupt,
}

/// A command, and what is said of it.
#[derive(Debug, PartialEq)]
pub(super) struct Typed {
    pub(super) text: String,
    pub(super) expected: Option<String>,
    pub(super) code: i32,
}

/// What counts as the beginning of what is expected.
const EXPECTED: &str = "# → ";
const EXIT_CODE: &str = "# exit code ";

/// The steps of a page.
pub(super) fn steps(text: &str) -> Result<Vec<Step>> {
    let mut reader = Reader::default();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, whole)) = lines.next() {
        let bare = whole.trim();
        if let Some(begun) = bare.strip_prefix("<!--") {
            let mut comment = begun.to_owned();
            while !comment.contains("-->") {
                let (_, more) = lines.next().with_context(|| format!("line {line}: a comment without an end"))?;
                comment.extend(["\n", more]);
            }
            reader.comment(line, comment.split("-->").next().unwrap_or_default().trim())?;
        } else if let Some(language) = bare.strip_prefix("```") {
            let indent = whole.len() - whole.trim_start().len();
            let mut block = String::new();
            loop {
                let (_, more) = lines.next().with_context(|| format!("line {line}: a block without an end"))?;
                if more.trim() == "```" {
                    break;
                }
                block.extend([more.get(indent..).unwrap_or_default(), "\n"]);
            }
            reader.block(line, language, &block)?;
        } else if !bare.is_empty() {
            reader.caption = captioned(bare);
        }
    }
    ensure!(reader.not_run.is_none(), "the last `not run` has no block behind it");
    Ok(reader.steps)
}

#[derive(Default)]
struct Reader {
    steps: Vec<Step>,
    /// What the block to come is not run for.
    not_run: Option<String>,
    /// The file that the block to come is.
    caption: Option<String>,
    /// Whether the block before was commands to be run.
    ran: bool,
}

impl Reader {
    fn comment(&mut self, line: usize, comment: &str) -> Result<()> {
        match comment.split_once(':').map(|(word, rest)| (word, rest.trim())) {
            Some(("run", commands)) => self.steps.extend(typed(commands)?.into_iter().map(|typed| run(line, typed))),
            Some(("not run", reason)) => {
                ensure!(!reason.is_empty(), "line {line}: `not run` without a reason");
                self.not_run = Some(reason.to_owned());
            }
            Some(("needs", command)) => self.steps.push(Step { line, action: Action::Need(command.to_owned()) }),
            None if comment == "ctrl-c" => self.steps.push(Step { line, action: Action::Interrupt }),
            _ => bail!("line {line}: a comment that no test understands: {comment}"),
        }
        Ok(())
    }

    fn block(&mut self, line: usize, language: &str, block: &str) -> Result<()> {
        let (not_run, caption, ran) = (self.not_run.take(), self.caption.take(), std::mem::take(&mut self.ran));
        match (language, not_run, caption) {
            ("", None, _) if block.starts_with("$ ") => {
                let reason = "shows somebody else's run, with what came of it".to_owned();
                self.steps.push(Step { line, action: Action::Skip { reason, commands: block.to_owned() } });
            }
            ("", ..) => bail!("line {line}: a block that does not say what it is: ```sh for commands, ```text for what is seen"),
            ("sh", Some(reason), _) => {
                self.steps.push(Step { line, action: Action::Skip { reason, commands: block.to_owned() } });
            }
            ("sh", None, _) => {
                self.steps.extend(typed(block)?.into_iter().map(|typed| run(line, typed)));
                self.ran = true;
            }
            (_, Some(_), _) => {}
            (_, None, Some(path)) => self.steps.push(Step { line, action: Action::Write { path, text: block.to_owned() } }),
            ("text" | "json", None, None) if ran => {
                if let Some(Step { action: Action::Run(last), .. }) = self.steps.last_mut() {
                    ensure!(last.expected.is_none(), "line {line}: two words on what `{}` prints", last.text);
                    last.expected = Some(block.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn run(line: usize, typed: Typed) -> Step {
    Step { line, action: Action::Run(typed) }
}

/// The path in `` …`PATH`: `` at the end of a line.
fn captioned(line: &str) -> Option<String> {
    let (_, path) = line.strip_suffix("`:")?.rsplit_once('`')?;
    let is_path = !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-@".contains(&byte));
    (is_path && path.contains('.')).then(|| path.to_owned())
}

/// The commands of a block, those that go over several lines in one.
fn typed(block: &str) -> Result<Vec<Typed>> {
    let (mut commands, mut text) = (Vec::new(), String::new());
    for line in block.lines().map(str::trim) {
        if text.is_empty() && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        text.push_str(line);
        if line.ends_with('\\') {
            text.push('\n');
        } else {
            commands.push(parted(std::mem::take(&mut text))?);
        }
    }
    ensure!(text.is_empty(), "a command that goes on behind its block: {text}");
    Ok(commands)
}

/// Parts a command from what is said of it.
fn parted(line: String) -> Result<Typed> {
    let said = |text: &str| text.trim_end().to_owned();
    if let Some((command, expected)) = line.split_once(EXPECTED) {
        return Ok(Typed { text: said(command), expected: Some(said(expected)), code: 0 });
    }
    if let Some((command, code)) = line.split_once(EXIT_CODE) {
        let code = code.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        return Ok(Typed { text: said(command), expected: None, code: code.parse().context("an exit code")? });
    }
    Ok(Typed { text: line, expected: None, code: 0 })
}

#[test]
fn a_page_is_read_as_a_reader_would() {
    let page = "\
Write `src/lib.rs`:

```rust
fn main() {}
```

<!-- not run: installs software -->
```sh
apt-get install all
```

<!-- run: mkdir bay -->
```sh
hotbay serve bay
curl a \\
  b      # → c
hotbay check d    # exit code 1
```

It says:

```text
no
```
";
    let typed = |text: &str, expected: Option<&str>, code| {
        Action::Run(Typed { text: text.to_owned(), expected: expected.map(str::to_owned), code })
    };
    let skip = Action::Skip { reason: "installs software".to_owned(), commands: "apt-get install all\n".to_owned() };
    let expected = [
        Action::Write { path: "src/lib.rs".to_owned(), text: "fn main() {}\n".to_owned() },
        skip,
        typed("mkdir bay", None, 0),
        typed("hotbay serve bay", None, 0),
        typed("curl a \\\nb", Some("c"), 0),
        typed("hotbay check d", Some("no\n"), 1),
    ];
    let found: Vec<_> = steps(page).expect("a page").into_iter().map(|step| step.action).collect();
    assert_eq!(found, expected);
    for wrong in
        ["```\nls\n```\n", "```sh\nls\n", "<!-- not run: -->\n```sh\nls\n```\n", "<!-- not run: x -->\n", "<!-- hm -->\n"]
    {
        steps(wrong).expect_err(wrong);
    }
}
