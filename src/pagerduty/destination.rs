//! Where an event goes: an integration, and the Events API by which it takes events.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::keys::ServiceKey;

/// Where an event goes: an integration, and the API by which it takes events.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Destination {
    /// The API of the integration.
    pub api: ApiVersion,
    /// The key of the integration.
    pub service_key: ServiceKey,
}

impl Destination {
    /// An integration of the Events API v1.
    #[must_use]
    pub fn v1(service_key: ServiceKey) -> Self {
        Self { api: ApiVersion::V1, service_key }
    }

    /// An integration of the Events API v2.
    #[must_use]
    pub fn v2(service_key: ServiceKey) -> Self {
        Self { api: ApiVersion::V2, service_key }
    }
}

/// The versions of PagerDuty's Events API that the bridge can send to.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
pub enum ApiVersion {
    /// Events API v1.
    #[default]
    V1,
    /// Events API v2.
    V2,
}

impl ApiVersion {
    /// Its name, such as `v1`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses the name, ignoring case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }

    /// Its number, as it is stored.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version with this number; v1 for an unknown number.
    #[must_use]
    pub fn of_number(number: i64) -> Self {
        Self::VARIANTS.iter().copied().find(|api| api.number() == number).unwrap_or_default()
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The APIs through which an open incident was triggered. It has to be resolved through each of them.
///
/// PagerDuty does not document that an incident opened through one API can be resolved through the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ApiSet(u8);

impl ApiSet {
    /// Only this API.
    #[must_use]
    pub fn only(api: ApiVersion) -> Self {
        Self(Self::bit(api))
    }

    /// This set with `api` added.
    #[must_use]
    pub fn with(self, api: ApiVersion) -> Self {
        Self(self.0 | Self::bit(api))
    }

    /// The APIs, oldest version first.
    pub fn iter(self) -> impl Iterator<Item = ApiVersion> {
        ApiVersion::VARIANTS.iter().copied().filter(move |api| self.0 & Self::bit(*api) != 0)
    }

    /// The number that is stored: 1 for v1, 2 for v2 and 3 for both.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0.into()
    }

    /// The set with this number. Unknown bits are ignored.
    #[must_use]
    pub fn of_number(number: i64) -> Self {
        let all = ApiVersion::VARIANTS.iter().fold(0, |all, api| all | Self::bit(*api));
        Self(u8::try_from(number & i64::from(all)).unwrap_or_default())
    }

    fn bit(api: ApiVersion) -> u8 {
        1 << (api.number() - 1)
    }
}

/// By which API each integration takes events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyApis {
    default: ApiVersion,
    by_key: Arc<BTreeMap<ServiceKey, ApiVersion>>,
}

impl KeyApis {
    /// Makes `default` the API of all integrations except those in `by_key`.
    #[must_use]
    pub fn new(default: ApiVersion, by_key: BTreeMap<ServiceKey, ApiVersion>) -> Self {
        Self { default, by_key: Arc::new(by_key) }
    }

    /// The integration with this key, and its API.
    #[must_use]
    pub fn destination(&self, key: &ServiceKey) -> Destination {
        let api = self.by_key.get(key).copied().unwrap_or(self.default);
        Destination { api, service_key: key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_stored_and_read_as_its_number() {
        for api in ApiVersion::VARIANTS {
            assert_eq!(ApiVersion::of_number(api.number()), *api);
            assert_eq!(ApiVersion::parse(api.name()), Some(*api));
        }
        assert_eq!((ApiVersion::of_number(7), ApiVersion::parse("v3")), (ApiVersion::V1, None));
        assert_eq!(ApiVersion::parse(" V2 "), Some(ApiVersion::V2));
    }

    #[test]
    fn a_set_holds_each_api_once() {
        let both = ApiSet::only(ApiVersion::V2).with(ApiVersion::V1).with(ApiVersion::V2);
        assert_eq!(both.iter().collect::<Vec<_>>(), [ApiVersion::V1, ApiVersion::V2]);
        for set in [ApiSet::default(), ApiSet::only(ApiVersion::V1), ApiSet::only(ApiVersion::V2), both] {
            assert_eq!(ApiSet::of_number(set.number()), set);
        }
        assert_eq!(ApiSet::of_number(-1), both, "bits that mean nothing are left out");
    }
}
