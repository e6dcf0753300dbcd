//! Words of strangers in a page: nothing of them is markup, moves other words or hides.

use std::fmt::{self, Write};

/// Text as it may stand between tags, and in an attribute within quotation marks.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        while let Some(character) = rest.next() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(character)?,
                // The colours of a terminal: ESC [ 1 ; 31 m.
                '\u{1b}' if rest.as_str().starts_with('[') => {
                    rest.find(|character| matches!(character, '@'..='Z' | '\\' | ']'..='~'));
                }
                character if character.is_control() || moves(character) => f.write_char('\u{fffd}')?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Whether it changes the direction of what follows, so that words could stand where they are not.
fn moves(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        let text = |text: &str| Text(text).to_string();
        assert_eq!(text("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
        assert_eq!(text("a\n\tb\r\0\u{202e}c"), "a\n\tb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(text("\u{1b}[1;31mred\u{1b}[0m <\u{1b}"), "red &lt;\u{fffd}");
        assert_eq!(text("\u{1b}[1;31"), "");
    }
}
