//! The functions of a profile in which guests were seen most: for whoever wants to know without a browser.

use serde::Deserialize;
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

/// Functions that are shown, and characters of a name: it is the guest's.
const SHOWN: usize = 10;
const NAME_MAX: usize = 100;

/// What is read of the processed format of the Firefox profiler: tables that point into each other by index.
#[derive(Deserialize)]
struct Profile {
    threads: Vec<Thread>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    samples: Samples,
    stack_table: Stacks,
    frame_table: Frames,
    func_table: Functions,
    string_array: Vec<String>,
}

#[derive(Deserialize)]
struct Samples {
    stack: Vec<Option<usize>>,
}

#[derive(Deserialize)]
struct Stacks {
    prefix: Vec<Option<usize>>,
    frame: Vec<usize>,
}

#[derive(Deserialize)]
struct Frames {
    func: Vec<usize>,
}

#[derive(Deserialize)]
struct Functions {
    name: Vec<usize>,
}

/// How often a function was seen.
#[derive(Default, Clone, Copy)]
struct Seen {
    /// At work itself.
    itself: u32,
    /// It, or one that it called.
    within: u32,
}

/// A table of them; none where the profile is not understood.
pub(super) fn hottest(profile: &str) -> Option<String> {
    let profile: Profile = serde_json::from_str(profile).ok()?;
    let mut seen: HashMap<&str, Seen> = HashMap::new();
    let mut all = 0_u32;
    for thread in &profile.threads {
        let function = |stack: usize| {
            let name = *thread.func_table.name.get(*thread.frame_table.func.get(*thread.stack_table.frame.get(stack)?)?)?;
            thread.string_array.get(name).map(String::as_str)
        };
        // Of each stack once, however many samples have it.
        let mut stacks: HashMap<usize, u32> = HashMap::new();
        thread.samples.stack.iter().flatten().for_each(|stack| *stacks.entry(*stack).or_default() += 1);
        for (stack, count) in stacks {
            all += count;
            seen.entry(function(stack)?).or_default().itself += count;
            let (mut next, mut on_it) = (Some(stack), HashSet::new());
            while let Some(stack) = next {
                // One that calls itself is on the stack once.
                let name = function(stack)?;
                if on_it.insert(name) {
                    seen.entry(name).or_default().within += count;
                }
                next = thread.stack_table.prefix.get(stack).copied().flatten().filter(|caller| *caller < stack);
            }
        }
    }
    let mut seen: Vec<_> = seen.into_iter().filter(|(_, seen)| seen.itself > 0).collect();
    seen.sort_by_key(|(name, seen)| (Reverse((seen.itself, seen.within)), *name));
    let percent = |count: u32| format!("{:.1}%", f64::from(count) * 100.0 / f64::from(all.max(1)));
    let row =
        |(name, seen): &(&str, Seen)| format!("{:>7}  {:>7}  {}\n", percent(seen.itself), percent(seen.within), shown(name));
    let rows: String = seen.iter().take(SHOWN).map(row).collect();
    (!rows.is_empty()).then(|| format!("{:>7}  {:>7}  FUNCTION\n{rows}", "ITSELF", "WITHIN"))
}

/// A guest may name a function what a terminal obeys.
fn shown(name: &str) -> String {
    name.chars().take(NAME_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_by_themselves_and_with_what_they_call() {
        let profile = r#"{"threads": [{
            "samples": {"stack": [1, 1, 1, 2, null]},
            "stackTable": {"prefix": [null, 0, 1], "frame": [0, 1, 0]},
            "frameTable": {"func": [0, 1]}, "funcTable": {"name": [1, 0]}, "stringArray": ["inner", "outer"]
        }]}"#;
        let table = hottest(profile).unwrap();
        let rows: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows, ["ITSELF WITHIN FUNCTION", "75.0% 100.0% inner", "25.0% 100.0% outer"]);
        assert_eq!(hottest("{}"), None);
        assert_eq!(hottest(r#"{"threads": []}"#), None);
    }
}
