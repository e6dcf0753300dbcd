//! Builds that are small and valid and take a compiler very long, or very much memory.

use bytes::Bytes;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Minutes of a core, in little memory: 14 MB. `seed` makes it another build.
pub fn slow(seed: u64) -> Bytes {
    functions_of_blocks(40, 500, 20_000, seed)
}

/// More than 4 GiB within seconds: 7 MB.
pub fn greedy(seed: u64) -> Bytes {
    functions_of_blocks(2, 2000, 200_000, seed)
}

/// Functions of `steps` blocks that jump over each other with all `locals` alive.
fn functions_of_blocks(functions: u32, locals: u32, steps: u32, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    // A loop around all of it keeps every local alive everywhere.
    let mut body = vec![1];
    body.extend(number(locals));
    body.extend([0x7f, 0x03, 0x40]);
    for _ in 0..steps {
        let mut local = || number(random.u32(0..locals));
        body.extend([0x02, 0x40, 0x20]);
        body.extend(local());
        body.extend([0x0d, 0x00, 0x20]);
        body.extend(local());
        body.push(0x20);
        body.extend(local());
        body.extend([0x6a, 0x21]);
        body.extend(local());
        body.push(0x0b);
    }
    body.extend([0x20, 0x00, 0x0d, 0x00, 0x0b, 0x0b]);
    let body = [number(length(&body)), body].concat();
    let code = [number(functions), body.repeat(functions as usize)].concat();
    let declared = [number(functions), vec![0; functions as usize]].concat();
    component(&[MODULE, &section(1, &[1, 0x60, 0, 0]), &section(3, &declared), &section(10, &code)].concat())
}

/// A module of `count` function types, each another one.
pub fn types(count: u32) -> Bytes {
    let mut types = number(count);
    for n in 0..count {
        // The number in base 4 as parameter types.
        let parameters: Vec<u8> = (0..9).map(|digit| 0x7c + u8::try_from(n >> (2 * digit) & 3).unwrap_or_default()).collect();
        types.extend([0x60, 9]);
        types.extend(parameters);
        types.push(0);
    }
    component(&[MODULE, &section(1, &types)].concat())
}

/// `count` functions of a few bytes each.
pub fn functions(count: u32) -> Bytes {
    let declared = [number(count), vec![0; count as usize]].concat();
    let code = [number(count), [2, 0, 0x0b].repeat(count as usize)].concat();
    component(&[MODULE, &section(1, &[1, 0x60, 0, 0]), &section(3, &declared), &section(10, &code)].concat())
}

/// Blocks within blocks, `depth` of them.
pub fn nested_blocks(depth: u32) -> Bytes {
    let body = [vec![0], [0x02, 0x40].repeat(depth as usize), vec![0x0b; depth as usize + 1]].concat();
    let code = [vec![1], number(length(&body)), body].concat();
    component(&[MODULE, &section(1, &[1, 0x60, 0, 0]), &section(3, &[1, 0]), &section(10, &code)].concat())
}

/// Components within components, `depth` of them.
pub fn nested_components(depth: u32) -> Bytes {
    (0..depth).fold(Bytes::from_static(COMPONENT), |inner, _| [COMPONENT, &section(4, &inner)].concat().into())
}

/// A component that instantiates `module` and exports nothing.
fn component(module: &[u8]) -> Bytes {
    [COMPONENT, &section(1, module), &section(2, &[1, 0, 0, 0])].concat().into()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], number(length(content)), content.to_vec()].concat()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a bomb is smaller than that")
}

/// LEB128.
fn number(mut n: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
