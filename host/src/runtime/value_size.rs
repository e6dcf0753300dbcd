//! How much memory of the host values take that go from one store to another.

use wasmtime::component::Val;

/// What an allocation takes beside what is asked for.
const ALLOCATION: usize = 16;

/// Bytes that these values hold, themselves included.
pub(super) fn held(values: &[Val]) -> u64 {
    u64::try_from(all(values)).unwrap_or(u64::MAX)
}

fn all(values: &[Val]) -> usize {
    values.iter().map(one).sum()
}

fn one(value: &Val) -> usize {
    let beside = match value {
        Val::String(text) | Val::Enum(text) => ALLOCATION + text.len(),
        Val::List(values) | Val::Tuple(values) | Val::FixedLengthList(values) => ALLOCATION + all(values),
        Val::Map(pairs) => ALLOCATION + pairs.iter().map(|(key, value)| one(key) + one(value)).sum::<usize>(),
        Val::Record(fields) => ALLOCATION + fields.iter().map(|(name, value)| named(name) + one(value)).sum::<usize>(),
        Val::Flags(names) => ALLOCATION + names.iter().map(|name| named(name)).sum::<usize>(),
        Val::Variant(name, value) => named(name) + inner(value.as_deref()),
        Val::Option(value) | Val::Result(Ok(value) | Err(value)) => inner(value.as_deref()),
        _ => 0,
    };
    size_of::<Val>() + beside
}

fn named(name: &str) -> usize {
    size_of::<String>() + ALLOCATION + name.len()
}

fn inner(value: Option<&Val>) -> usize {
    value.map_or(0, |value| ALLOCATION + one(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_counts_as_well() {
        let bytes = |len: usize| Val::List(vec![Val::U8(0); len]);
        let least = |len: usize| u64::try_from(len * size_of::<Val>()).unwrap();
        assert!(held(&[bytes(1000)]) >= least(1001));
        assert!(held(&[Val::Option(Some(Box::new(bytes(1000))))]) > held(&[bytes(1000)]));
        assert!(held(&[Val::Record(vec![("bytes".to_owned(), bytes(10))]), Val::String("x".repeat(4096))]) > 4096 + least(12));
        assert_eq!(held(&[]), 0);
    }
}
