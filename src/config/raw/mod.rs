//! What a user may write: the tables and their keys, each field still by itself.
//!
//! A key that does not stand in `tables` is unknown; `valid` turns these into settings. What is declared there once is
//! read, and is described by `outrider schema`: a key without a description does not compile.

/// Declares tables: their fields with what each is for and its default, their secrets (each with its twin `_file`), and
/// keys that are accepted and ignored.
macro_rules! tables {
    ($(
        $(#[doc = $table_doc:literal])+
        $table:ident
        $(secrets { $($(#[doc = $secret_doc:literal])+ $secret:ident,)* })?
        $(ignored [$($ignored:ident),*])?
        { $($(#[doc = $key_doc:literal])+ $key:ident: $kind:ty $(= $default:tt)?,)* }
    )*) => {
        $(
            $(#[doc = $table_doc])+
            pub(in crate::config) struct $table {
                $(pub(in crate::config) $key: Field<$kind>,)*
                $($(pub(in crate::config) $secret: Field<SecretSource>,)*)?
            }

            impl $table {
                pub(in crate::config) const KEYS: &[&str] = &[
                    $(stringify!($key),)*
                    $($(stringify!($secret), concat!(stringify!($secret), "_file"),)*)?
                    $($(stringify!($ignored),)*)?
                ];

                /// Those of them that are accepted and have no effect.
                pub(in crate::config) const IGNORED: &[&str] = &[$($(stringify!($ignored),)*)?];

                /// Those of them that a user would write.
                #[cfg(test)]
                const WRITTEN: &[&str] = &[$(stringify!($key),)* $($(stringify!($secret),)*)?];
            }

            /// The table where nothing is written.
            impl Default for $table {
                fn default() -> Self {
                    Self { $($key: Field::Absent,)* $($($secret: Field::Absent,)*)? }
                }
            }

            impl Read for $table {
                fn read(value: &Value, at: &At, reading: &mut Reading<'_>) -> Field<Self> {
                    let Some(dict) = reading.table(value, at) else { return Field::Bad };
                    reading.refuse_unknown(&dict, at, Self::KEYS, super::ELSEWHERE);
                    Field::Given(Self {
                        $($key: reading.field(&dict, at, stringify!($key)),)*
                        $($($secret: reading.secret(&dict, at, stringify!($secret)),)*)?
                    })
                }
            }

            impl Shape for $table {
                fn shape() -> serde_json::Value {
                    let mut table = Table::default();
                    $(
                        let default: Option<serde_json::Value> = [$(json!($default))?].into_iter().next();
                        table.key(stringify!($key), &[$($key_doc),+], <$kind>::shape(), default);
                    )*
                    $($(table.secret(stringify!($secret), &[$($secret_doc),+]);)*)?
                    for ignored in Self::IGNORED {
                        table.ignored(ignored);
                    }
                    table.close()
                }
            }
        )*

        /// Whether any table has a key of this name.
        pub(in crate::config) fn is_known_key(key: &str) -> bool {
            false $(|| $table::KEYS.contains(&key))*
        }

        /// Every key that a user would write.
        #[cfg(test)]
        pub(in crate::config) fn all_keys() -> impl Iterator<Item = &'static str> {
            [$($table::WRITTEN),*].into_iter().flatten().copied()
        }
    };
}

mod tables;
mod words;

pub(super) use self::tables::*;
pub(super) use self::words::{AuthenticationType, ClientAuthentication, Start};

/// Keys that are often put into the wrong table, and their own.
const ELSEWHERE: &[(&str, &str)] = &[
    ("listen", "server"),
    ("workers", "server"),
    ("api_key", "server"),
    ("max_body", "server"),
    ("drain_timeout", "server"),
    ("level", "log"),
    ("metrics_listen", "admin"),
    ("no_proxy", "egress"),
    ("connect", "limits"),
    ("first_byte", "limits"),
    ("max_concurrent", "limits"),
    ("client_cert_file", "integrations.NAME.tls"),
    ("ca_file", "integrations.NAME.tls"),
    ("client_id", "integrations.NAME.oauth2"),
    ("client_secret", "integrations.NAME.oauth2"),
    ("audience", "integrations.NAME.oauth2"),
];
