//! Why a request failed, as lines for a terminal: what the log says in one.

use super::frame::Frame;
use crate::runtime::{BETWEEN_FRAMES, FRAMES, OUTPUT};

/// Functions that are told where none is the service's own.
const STRANGE_MAX: usize = 3;

/// The reason of a line of the log on a request that failed in lines of their own: the reason, then each of the service's own
/// functions that it went through. What the guest wrote is left out, for whoever has shown that already.
pub fn in_lines(reason: &str) -> String {
    let (told, _) = reason.split_once(OUTPUT).unwrap_or((reason, ""));
    let Some((head, backtrace)) = told.split_once(FRAMES) else {
        return told.to_owned();
    };
    let frames: Vec<_> = backtrace.split(BETWEEN_FRAMES).map(Frame::read).collect();
    let some_are_own = frames.iter().any(|frame| frame.is_own);
    let most = if some_are_own { frames.len() } else { STRANGE_MAX };
    let mut lines = head.to_owned();
    for frame in frames.iter().filter(|frame| frame.is_own == some_are_own).take(most) {
        lines.push_str("\n  in ");
        lines.push_str(frame.function);
        if let Some(place) = frame.place {
            lines.push_str(" at ");
            lines.push_str(place);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_trap_the_reason_and_the_services_own_functions_are_left() {
        let trap = "the guest trapped: wasm `unreachable` instruction executed; in std::rt < orders::price at src/lib.rs:7 < \
                    <other::R as x>::call at vendor/hotbay-sdk/src/lib.rs:3 < orders::main; it wrote: panicked at a; in b | c";
        let lines =
            "the guest trapped: wasm `unreachable` instruction executed\n  in orders::price at src/lib.rs:7\n  in orders::main";
        assert_eq!(in_lines(trap), lines);
    }

    #[test]
    fn where_none_is_its_own_the_innermost_are_told() {
        assert_eq!(
            in_lines("it trapped; in std::a < std::b < std::c < std::d"),
            "it trapped\n  in std::a\n  in std::b\n  in std::c"
        );
    }

    #[test]
    fn other_reasons_are_told_as_they_are() {
        let late = "the guest gave no response head within 5s (limits.deadline)";
        assert_eq!(in_lines(late), late);
        assert_eq!(in_lines(&format!("{late}; it wrote: a | b")), late);
    }
}
