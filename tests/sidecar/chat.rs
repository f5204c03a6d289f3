//! A chat completion as a whole.

use crate::support::{Call, Setup, Upstream};

#[test]
fn a_whole_answer_reaches_the_client() {
    let upstream = Upstream::saying("hello");
    let sidecar = Setup::new(format!("[integrations.acme]\nendpoint = \"{}\"\nauthentication_type = \"none\"\nmodels = [\"m\"]", upstream.url("/v1"))).start();
    assert_eq!(sidecar.ask(&Call::say("m", "hi")).content(), "hello");
}
