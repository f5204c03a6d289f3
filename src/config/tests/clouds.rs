//! The authorizations of clouds: where regions and keys come from, and every mistake in their tables.

use super::House;
use crate::config::valid::{Authorization, Aws, AwsKeys, Gcp, GcpSource, Integration, SecretSource};

fn one(house: &House) -> Integration {
    house.loaded().settings.integrations["acme"].clone()
}

/// `[integrations.acme]` before `endpoint`, authorized by `kind`, with `table` below it.
fn toml(kind: &str, endpoint: &str, table: &str) -> String {
    let acme = format!("[integrations.acme]\nendpoint = \"{endpoint}\"\nmodels = [\"m\"]\n");
    format!("{acme}authentication_type = \"{kind}\"\n{table}\n")
}

/// What is reported of it with this environment.
fn report(kind: &str, endpoint: &str, table: &str, env: &[(&str, &str)]) -> String {
    House::new(&toml(kind, endpoint, table)).env(env.iter().copied()).report()
}

fn aws(endpoint: &str, table: &str, env: &[(&str, &str)]) -> Aws {
    match one(&House::new(&toml("aws_sigv4", endpoint, table)).env(env.iter().copied())).authorization {
        Authorization::SigV4(aws) => *aws,
        other => panic!("{other:?}"),
    }
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_SESSION_TOKEN", "session")];
const BEDROCK: &str = "https://bedrock-runtime.eu-west-3.amazonaws.com";

#[test]
fn the_region_is_what_is_said_else_the_hosts_else_the_environments() {
    let env = |more: &'static str| [KEYS[0], KEYS[1], (more, "us-west-2")];
    let region = |endpoint, table, more| aws(endpoint, table, &env(more)).region;
    assert_eq!(region(BEDROCK, "aws = { region = \"eu-central-1\" }", "AWS_REGION"), "eu-central-1");
    assert_eq!(region(BEDROCK, "", "AWS_REGION"), "eu-west-3");
    assert_eq!(region("https://gw.example", "", "AWS_REGION"), "us-west-2");
    assert_eq!(region("https://gw.example", "", "AWS_DEFAULT_REGION"), "us-west-2");
    assert_eq!(aws(BEDROCK, "", &KEYS).service, "bedrock");
    assert_eq!(aws(BEDROCK, "aws = { service = \"execute-api\" }", &KEYS).service, "execute-api");
}

#[test]
fn aws_keys_come_from_the_table_else_the_environment_else_a_web_identity() {
    let identity =
        [("AWS_ROLE_ARN", "arn:aws:iam::1:role/env"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")];
    let fixed = |table: &str, env: &[(&str, &str)]| match aws(BEDROCK, table, env).keys {
        AwsKeys::Fixed { id, secret, session } => {
            let expose = |source: SecretSource| source.load().unwrap().expose().to_owned();
            [Some(id), Some(secret), session].map(|source| source.map(expose).unwrap_or_default())
        }
        AwsKeys::WebIdentity(_) => panic!("it is a web identity"),
    };
    let role = |table: &str, env: &[(&str, &str)]| match aws(BEDROCK, table, env).keys {
        AwsKeys::WebIdentity(identity) => identity,
        AwsKeys::Fixed { .. } => panic!("it has keys"),
    };
    let own = "aws = { access_key_id = \"a\", secret_access_key = \"s\" }";
    assert_eq!(fixed(own, &KEYS), ["a", "s", ""], "the environment's session belongs to its own keys");
    let both = [KEYS.as_slice(), &identity].concat();
    assert_eq!(fixed("", &both), ["id", "key", "session"]);
    let env = role("", &identity);
    assert_eq!((env.role_arn.as_str(), env.session_name.as_str()), ("arn:aws:iam::1:role/env", "outrider"));
    assert_eq!(env.token_file, std::path::Path::new("/var/run/token"));
    assert_eq!(env.sts_endpoint, "https://sts.eu-west-3.amazonaws.com");
    let table = "aws = { role_arn = \"arn:aws:iam::1:role/own\", web_identity_token_file = \"t\", \
                 role_session_name = \"s\", sts_endpoint = \"http://127.0.0.1:1/sts\" }";
    let own = role(table, &both);
    assert_eq!((own.role_arn.as_str(), own.session_name.as_str()), ("arn:aws:iam::1:role/own", "s"));
    assert!(own.token_file.is_absolute() && own.token_file.ends_with("t"), "relative to the file");
    assert_eq!(own.sts_endpoint, "http://127.0.0.1:1/sts");
    let half = role("aws = { role_arn = \"arn:aws:iam::1:role/own\" }", &[identity[1]]);
    assert_eq!(half.token_file, std::path::Path::new("/var/run/token"));
}

#[test]
fn each_mistake_in_aws_is_one_error_that_says_so() {
    let keys = "access_key_id = \"a\", secret_access_key = \"s\"";
    let role = "role_arn = \"arn:aws:iam::1:role/r\"";
    for (table, words) in [
        ("access_key_id = \"a\"", "`access_key_id` needs `secret_access_key`"),
        ("secret_access_key_file = \"s\"", "`secret_access_key` needs `access_key_id`"),
        ("session_token = \"t\"", "`session_token` needs `access_key_id` and `secret_access_key`"),
        (&format!("{keys}, region = \"\""), "`integrations.acme.aws.region` must be letters and digits"),
        (
            &format!("{keys}, region = \"us east\""),
            "`integrations.acme.aws.region` must be letters and digits",
        ),
        (&format!("{keys}, service = \"a/b\""), "`integrations.acme.aws.service` must be"),
        (&format!("{keys}, {role}"), "both `access_key_id` and `role_arn` are given"),
        (role, "`role_arn` needs `web_identity_token_file`"),
        ("web_identity_token_file = \"t\"", "`web_identity_token_file` needs `role_arn`"),
        ("role_arn = \"admin\", web_identity_token_file = \"t\"", "is not the ARN of a role"),
        (
            &format!("{role}, web_identity_token_file = \"t\", sts_endpoint = \"sts\""),
            "must begin with https://",
        ),
        (
            &format!("{role}, web_identity_token_file = \"t\", role_session_name = \"a b\""),
            "role_session_name",
        ),
        (&format!("{keys}, regoin = \"us-east-1\""), "did you mean `region`?"),
        ("", "aws_sigv4 needs keys, and none are given"),
    ] {
        let report = report("aws_sigv4", BEDROCK, &format!("aws = {{ {table} }}"), &[]);
        assert!(report.contains(words), "{table}: {report}");
        let errors = report.matches("error: ").count();
        assert!(errors == 1 && report.contains("--> config.toml:"), "{table}: {errors} errors: {report}");
    }
}

#[test]
fn what_the_environment_lacks_is_named_with_the_remedy() {
    let gateway = "https://gw.example";
    let half = report("aws_sigv4", BEDROCK, "", &KEYS[..1]);
    assert!(half.contains("AWS_SECRET_ACCESS_KEY is not set"), "{half}");
    let region = report("aws_sigv4", gateway, "", &KEYS);
    assert!(region.contains("neither the endpoint nor the environment says it"), "{region}");
    assert!(region.contains("set aws = { region = \"us-east-1\" }, or AWS_REGION"), "{region}");
    let wrong = report("aws_sigv4", gateway, "", &[KEYS[0], KEYS[1], ("AWS_REGION", "s3cret region")]);
    assert!(wrong.contains("AWS_REGION is not a region") && !wrong.contains("s3cret"), "{wrong}");
    let role = [("AWS_ROLE_ARN", "s3cret"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
    let role = report("aws_sigv4", BEDROCK, "", &role);
    assert!(role.contains("AWS_ROLE_ARN is not the ARN of a role") && !role.contains("s3cret"), "{role}");
    let unused =
        "aws = { access_key_id = \"a\", secret_access_key = \"s\", sts_endpoint = \"https://sts.example\" }";
    let unused = report("aws_sigv4", BEDROCK, unused, &[]);
    assert!(unused.contains("warning: `sts_endpoint` is not used"), "{unused}");
}

fn gcp(table: &str, env: &[(&str, &str)]) -> (House, Gcp) {
    let house = House::new(&toml("gcp", "https://aiplatform.example/v1", table)).env(env.iter().copied());
    match one(&house).authorization {
        Authorization::Gcp(gcp) => (house, gcp),
        other => panic!("{other:?}"),
    }
}

#[test]
fn googles_credentials_come_from_the_table_else_the_environment_else_the_machine() {
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", "/env.json"), ("GCE_METADATA_HOST", "127.0.0.1:8080")];
    let machine = |host: &str| {
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        GcpSource::Metadata(url.parse().unwrap())
    };
    let (house, own) = gcp("gcp = { credentials_file = \"own.json\", scope = \"a b\" }", &env);
    assert!(own.source == GcpSource::File(house.path().join("own.json")), "relative to the file");
    assert_eq!(own.scope.as_deref(), Some("a b"));
    let (_, from_env) = gcp("", &env);
    assert!(from_env.source == GcpSource::File("/env.json".into()) && from_env.scope.is_none());
    assert!(gcp("", &env[1..]).1.source == machine("127.0.0.1:8080"));
    assert!(gcp("", &[]).1.source == machine("metadata.google.internal"));
    assert!(gcp("gcp = { metadata_host = \"m.example\" }", &env).1.source == machine("m.example"));
}

#[test]
fn each_mistake_in_gcp_is_one_error_that_says_so() {
    for (table, words) in [
        ("credentials_file = \"\"", "`integrations.acme.gcp.credentials_file` is empty"),
        ("scope = \" \"", "`integrations.acme.gcp.scope` is empty"),
        ("scope = \"a\\nb\"", "`integrations.acme.gcp.scope` holds a control character"),
        (
            "credentials_file = \"c\", metadata_host = \"m\"",
            "both `credentials_file` and `metadata_host` are given",
        ),
        ("metadata_host = \"me@m\"", "holds a user or a password"),
        ("credential_file = \"c\"", "did you mean `credentials_file`?"),
    ] {
        let report = report("gcp", "https://a.example", &format!("gcp = {{ {table} }}"), &[]);
        assert!(report.contains(words), "{table}: {report}");
        let errors = report.matches("error: ").count();
        assert!(errors == 1 && report.contains("--> config.toml:"), "{table}: {errors} errors: {report}");
    }
    for host in ["s3cret host", "me:s3cret@m", "http://s3cret", "m?s3cret"] {
        let report = report("gcp", "https://a.example", "", &[("GCE_METADATA_HOST", host)]);
        let words = [
            "error: the environment variable GCE_METADATA_HOST ",
            "--> environment variable GCE_METADATA_HOST",
            "name a host alone",
        ];
        assert!(words.iter().all(|words| report.contains(words)), "{host}: {report}");
        assert!(!report.contains("s3cret") && !report.contains("metadata_host"), "{host}: {report}");
    }
    let empty = report("gcp", "https://a.example", "gcp = {}", &[]);
    assert!(empty.contains("warning: `gcp` is empty"), "{empty}");
}
