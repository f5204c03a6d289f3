//! (scaffold) anthropic
use super::*;
/// anthropic
#[derive(Debug)]
pub struct Anthropic;
impl Dialect for Anthropic {
    fn prepare(&self, _: &Envelope, _: &Context<'_>) -> Result<Prepared, Untranslatable> {
        todo!()
    }
    fn tails(&self) -> &'static [&'static str] {
        &[]
    }
}
