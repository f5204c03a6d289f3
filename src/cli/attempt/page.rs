//! What is printed: a line for each fact, and the answer as it arrives; no secret in it, and nothing that moves a
//! terminal's cursor.

use std::io::Write;

use crate::cli::terminal;
use crate::config::Veil;
use crate::config::valid::STARS;
use crate::secret::Secret;

/// How wide the column of labels is.
const LABEL: usize = 14;
/// How many characters are shown of what is no answer.
const EXCERPT: usize = 600;
/// What is shorter is no part of a secret, but the end of a word.
const LEAST: usize = 6;

/// Prints to `out`. Whether anybody reads it does not matter: the exit code still says how it went.
pub(super) struct Page<W> {
    out: W,
    veil: Veil,
    /// What has come of the answer's text and may begin a secret.
    held: String,
    /// Whether any of the answer's text has been printed.
    began: bool,
}

impl<W: Write> Page<W> {
    pub(super) fn new(out: W, veil: Veil) -> Self {
        Self { out, veil, held: String::new(), began: false }
    }

    /// Hides these from now on, too.
    pub(super) fn hide(&mut self, secrets: &[Secret]) {
        self.veil.hide(secrets);
    }

    /// What hides secrets.
    pub(super) fn veil(&self) -> &Veil {
        &self.veil
    }

    /// One line.
    pub(super) fn fact(&mut self, label: &str, words: &str) {
        let words = self.veil.cover(words);
        let words = terminal::line(&words);
        self.print(&format!("{}\n", format!("{label:LABEL$} {words}").trim_end()));
    }

    /// More of the answer's text. What may begin a secret waits for what comes behind it.
    pub(super) fn say(&mut self, text: &str) {
        self.held.push_str(text);
        let mut covered = self.veil.cover(&self.held);
        self.held = covered.split_off(self.veil.unsure_from(&covered));
        self.text(&covered);
    }

    /// There is no more of the answer's text; `or` stands where it has none. It may have broken off inside a secret.
    pub(super) fn said(&mut self, or: &str) {
        let rest = std::mem::take(&mut self.held);
        self.text(if rest.len() < LEAST { &rest } else { STARS });
        match self.began {
            true => self.print("\n"),
            false => self.fact("answer", or),
        }
        self.began = false;
    }

    /// The beginning of an answer that is none.
    pub(super) fn excerpt(&mut self, whole: &str) {
        let mut covered = self.veil.cover(whole);
        let hidden = covered.len() - self.veil.unsure_from(&covered);
        if hidden >= LEAST {
            covered.truncate(covered.len() - hidden);
        }
        if let Some((at, _)) = covered.char_indices().nth(EXCERPT) {
            covered.truncate(at);
        }
        self.text(&covered);
        self.said("it is empty");
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let label = if self.began { String::new() } else { format!("{:LABEL$} ", "answer") };
        self.began = true;
        let mut printed = label;
        for c in text.chars() {
            match c {
                '\n' => printed.push_str(&format!("\n{:LABEL$} ", "")),
                '\t' => printed.push(c),
                c => terminal::push(c, &mut printed),
            }
        }
        self.print(&printed);
    }

    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Options, load};

    fn printed(print: impl FnOnce(&mut Page<Vec<u8>>)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let text = "[integrations.acme]\nendpoint = \"https://a.example/v1\"\nmodels = [\"m\"]\nauthentication_type = \"api_key\"\n\
                    api_key_header = \"x-key\"\napi_key_value = \"Bearer sk-live-1\"\n";
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        let loaded = load(&options).unwrap_or_else(|problems| panic!("{problems}"));
        let veil = loaded.veil(loaded.settings.integrations.values().next().unwrap());
        let mut page = Page::new(Vec::new(), veil);
        print(&mut page);
        String::from_utf8(page.out).unwrap()
    }

    #[test]
    fn a_secret_is_hidden_wherever_the_network_cuts_it() {
        let text = "the key sk-live-1, sk-live and a token-77\n\u{1b}[2Jend sk-li";
        for step in 1..text.len() {
            let page = printed(|page| {
                page.hide(&[Secret::new("token-77")]);
                for piece in text.as_bytes().chunks(step) {
                    page.say(str::from_utf8(piece).unwrap());
                }
                page.said("none");
            });
            let wanted = format!("answer         the key ***, sk-live and a ***\n{:15} [2Jend sk-li\n", "");
            assert_eq!(page, wanted, "in steps of {step}");
        }
    }

    #[test]
    fn what_may_begin_no_secret_is_printed_at_once() {
        let page = printed(|page| {
            page.say("hello");
            assert!(String::from_utf8_lossy(&page.out).ends_with("hello"));
            page.say(" B");
            assert!(String::from_utf8_lossy(&page.out).ends_with("hello "));
            page.said("none");
        });
        assert_eq!(page, "answer         hello B\n");
        assert_eq!(printed(|page| page.said("no text")), "answer         no text\n");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_text_ends_inside_it_or_is_cut() {
        let text = "the key Bearer sk-liv";
        assert_eq!(printed(|page| (page.say(text), page.said("none")).1), "answer         the key ***\n");
        assert_eq!(printed(|page| page.excerpt(text)), "answer         the key \n");
        let page = printed(|page| page.excerpt(&format!("{} sk-live-1 and more", "é".repeat(EXCERPT - 3))));
        assert_eq!(page, format!("answer         {} **\n", "é".repeat(EXCERPT - 3)));
        assert_eq!(printed(|page| page.excerpt("")), "answer         it is empty\n");
    }

    #[test]
    fn a_line_stays_one() {
        let page = printed(|page| page.fact("failed", "Bearer sk-live-1\r\nx\u{7}"));
        assert_eq!(page, "failed         ***  x\n");
    }
}
