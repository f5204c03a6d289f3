//! JSON laid out for people without changing a token of it: numbers, escapes and the order of keys stay as they are.

/// One level of indentation.
const STEP: &str = "  ";

/// `json` with a line for each member and element. What is no JSON comes out with its words in order, if oddly laid out.
pub(super) fn laid_out(json: &str) -> String {
    let (mut out, mut depth, mut chars) =
        (String::with_capacity(json.len() * 2), 0_usize, json.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push('"');
                string(&mut chars, &mut out);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                let close = if c == '{' { '}' } else { ']' };
                if let Some(close) = chars.next_if_eq(&close) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// The rest of a string, its closing quote included.
fn string(chars: &mut impl Iterator<Item = char>, out: &mut String) {
    while let Some(c) = chars.next() {
        out.push(c);
        match c {
            '\\' => out.extend(chars.next()),
            '"' => return,
            _ => {}
        }
    }
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(STEP, depth));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_token_stays_as_it_is() {
        let json = r#"{ "b":[1e400, 9007199254740993,{}, [ ]],"a":{"x" : "a,{\"\\" } }"#;
        let want = "{\n  \"b\": [\n    1e400,\n    9007199254740993,\n    {},\n    []\n  ],\n  \"a\": {\n    \"x\": \"a,{\\\"\\\\\"\n  }\n}";
        assert_eq!(laid_out(json), want);
    }

    proptest! {
        #[test]
        fn laying_out_adds_and_takes_white_space_alone(text in "[\\PC\n\\[\\]{},:\"]{0,80}") {
            let words = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
            prop_assert_eq!(words(&laid_out(&text)), words(&text));
        }
    }
}
