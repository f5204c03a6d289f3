//! (scaffold) openai
use super::*;
/// openai
#[derive(Debug)]
pub struct OpenAi;
impl Dialect for OpenAi {
    fn prepare(&self, _: &Envelope, _: &Context<'_>) -> Result<Prepared, Untranslatable> {
        todo!()
    }
    fn tails(&self) -> &'static [&'static str] {
        &[]
    }
}
