//! Parameters of requests, and what is wrong with them in the API's own words.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::address_text::why_no_address;

/// The parameters of a request, read from its query.
pub(super) struct Params<T>(pub(super) T);

/// A set of parameters, each with its name and what its value has to be.
pub(super) trait Described: DeserializeOwned {
    /// All of them.
    const ALL: &'static [Param];
}

/// A parameter.
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// What a value has to be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Address,
    Flag,
    /// A whole number from 0 to this.
    Number(u64),
    Text,
}

/// A parameter that may be left out.
pub(super) const fn optional(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, is_required: false }
}

/// A parameter that a request needs.
pub(super) const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, is_required: true }
}

impl<S: Sync, T: Described> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if let Ok(Query(params)) = Query::<T>::try_from_uri(&parts.uri) {
            return Ok(Self(params));
        }
        let given = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let given = given.map(|Query(given)| given).unwrap_or_default();
        Err(ApiError::bad_request(wrong::<T>(&given)))
    }
}

/// What is wrong with these.
fn wrong<T: Described>(given: &[(String, String)]) -> String {
    for Param { name, kind, is_required } in T::ALL {
        let values: Vec<&String> =
            given.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect();
        match &values[..] {
            [] if *is_required => {
                return format!("{name} is missing: add {name}={}", kind.example());
            }
            [_, _, ..] => return format!("{name} is given {} times", values.len()),
            [value] => {
                if let Some(why) = kind.why_not(value) {
                    return format!("{name}: {why}");
                }
            }
            [] => {}
        }
    }
    let names: Vec<_> = T::ALL.iter().map(|param| param.name).collect();
    format!("the parameters cannot be read: expected NAME=VALUE of {}", names.join(", "))
}

impl Kind {
    /// Why a value is none of this kind; `None` if it is one.
    fn why_not(self, value: &str) -> Option<String> {
        let expected = match self {
            Self::Address if value.parse::<IpAddr>().is_ok() => return None,
            Self::Address => {
                return Some(format!("{value:?} is not an address: {}", why_no_address(value)));
            }
            Self::Flag if value.parse::<bool>().is_ok() => return None,
            Self::Flag => "true or false".to_owned(),
            Self::Number(most) if value.parse::<u64>().is_ok_and(|number| number <= most) => {
                return None;
            }
            Self::Number(most) => format!("a whole number from 0 to {most}"),
            Self::Text => return None,
        };
        Some(format!("expected {expected}, found {value:?}"))
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Address => "192.0.2.1",
            Self::Flag => "true",
            Self::Number(_) => "1",
            Self::Text => "TEXT",
        }
    }
}
