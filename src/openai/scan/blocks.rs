//! What the bytes of a string are, many at a time: of a long one by the widest instructions that the processor has.
//!
//! Nothing here branches on a byte: text has an escape in every other line, at places that no processor guesses.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, u8x32, u8x64};

/// Bytes of a block: what a short string is tested by, with instructions that need not be asked for.
pub(in crate::openai) const BLOCK: usize = 32;

/// Bytes of a stretch: as many as a mask has bits.
pub(super) const STRETCH: usize = 64;

/// One bit a byte, the first byte lowest: set for a quote, a backslash or a control character.
pub(in crate::openai) fn marks(block: &[u8; BLOCK]) -> u32 {
    dispatch!(Level::baseline(), simd => {
        let block = u8x32::load_array_ref(simd, block);
        let control = block.simd_lt(u8x32::splat(simd, b' '));
        let quote = block.simd_eq(u8x32::splat(simd, b'"'));
        (control | quote | block.simd_eq(u8x32::splat(simd, b'\\'))).to_bitmask() as u32
    })
}

/// One bit a byte, the first byte lowest: set for a backslash.
pub(in crate::openai) fn backslashes(block: &[u8; BLOCK]) -> u32 {
    dispatch!(Level::baseline(), simd => {
        let block = u8x32::load_array_ref(simd, block);
        block.simd_eq(u8x32::splat(simd, b'\\')).to_bitmask() as u32
    })
}

/// One bit a byte: set for those beyond ASCII.
pub(super) fn beyond_ascii(block: &[u8; BLOCK]) -> u64 {
    dispatch!(Level::baseline(), simd => {
        u8x32::load_array_ref(simd, block).simd_ge(u8x32::splat(simd, 0x80)).to_bitmask()
    })
}

/// What the bytes of a stretch of a string are: one bit a byte, the first byte lowest.
pub(super) struct Stretch {
    /// Backslashes, escaped ones among them.
    pub(super) backslashes: u64,
    /// Quotes and control characters that are not escaped: the end of the string, or a fault of it.
    pub(super) stops: u64,
    /// Escaped bytes other than the common `"`, `\` and `n`: rarer escapes, or faults.
    pub(super) rare: u64,
}

/// Looks at a string from left to right, one stretch behind the other.
pub(super) struct Stretches<S: Simd> {
    simd: S,
    /// All bytes that were looked at, one over the other: enough to know whether one was beyond ASCII.
    seen: u8x64<S>,
    /// 1 if the last stretch ended in a backslash that escapes what follows it.
    cut: u64,
}

/// Every second bit, the lowest one clear.
const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;

impl<S: Simd> Stretches<S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        Self { simd, seen: u8x64::splat(simd, 0), cut: 0 }
    }

    /// Looks at the next stretch.
    #[inline(always)]
    pub(super) fn look(&mut self, bytes: &[u8; STRETCH]) -> Stretch {
        let bytes = u8x64::load_array_ref(self.simd, bytes);
        self.seen |= bytes;
        let equal = |byte| bytes.simd_eq(u8x64::splat(self.simd, byte));
        let (quotes, slashes) = (equal(b'"'), equal(b'\\'));
        let stops = (quotes | bytes.simd_lt(u8x64::splat(self.simd, b' '))).to_bitmask();
        let common = (quotes | slashes | equal(b'n')).to_bitmask();
        let backslashes = slashes.to_bitmask();
        let escaped = self.escaped(backslashes);
        Stretch { backslashes, stops: stops & !escaped, rare: escaped & !common }
    }

    /// Which bytes are escaped, by where the backslashes stand. In a row of them each second one is escaped by the one
    /// before it: a subtraction carries along the row, and where it ends tells whether the row was odd.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let rows = backslashes & !self.cut;
        let ends = ((rows << 1) | ODD).wrapping_sub(rows) ^ ODD;
        let escaped = ends ^ (backslashes | self.cut);
        self.cut = (ends & backslashes) >> (STRETCH - 1);
        escaped
    }

    /// Whether the last byte that was looked at is a backslash that escapes the next one.
    #[inline(always)]
    pub(super) fn is_cut(&self) -> bool {
        self.cut == 1
    }

    /// Not 0 if a byte beyond ASCII was among those that were looked at.
    #[inline(always)]
    pub(super) fn beyond_ascii(&self) -> u64 {
        self.seen.simd_ge(u8x64::splat(self.simd, 0x80)).to_bitmask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_every_byte_that_is_not_plain_and_no_other() {
        for byte in 0..=u8::MAX {
            for other in [b'a', b'"', 0x80, 0xff, 0x1f, 0x21] {
                for place in 0..BLOCK {
                    let block: [u8; BLOCK] = std::array::from_fn(|at| if at == place { byte } else { other });
                    let bits = |is: fn(u8) -> bool| {
                        block.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(is(*byte)))
                    };
                    assert_eq!(
                        marks(&block),
                        bits(|byte| matches!(byte, b'"' | b'\\' | ..b' ')),
                        "{block:?}"
                    );
                    assert_eq!(backslashes(&block), bits(|byte| byte == b'\\'), "{block:?}");
                    assert_eq!(beyond_ascii(&block), u64::from(bits(|byte| byte >= 0x80)), "{block:?}");
                }
            }
        }
    }
}
