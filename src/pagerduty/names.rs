//! The names by which people know service keys: those from the settings, and those of PagerDuty's services.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::ServiceKey;

/// Names of service keys; clones share them. A name from the settings takes precedence over one from PagerDuty's API.
#[derive(Clone, Debug, Default)]
pub struct KeyNames(Arc<RwLock<Names>>);

#[derive(Debug, Default)]
struct Names {
    set: BTreeMap<ServiceKey, String>,
    learned: BTreeMap<ServiceKey, String>,
}

impl KeyNames {
    /// Makes a value with the names from the settings.
    #[must_use]
    pub fn new(set: impl IntoIterator<Item = (ServiceKey, String)>) -> Self {
        Self(Arc::new(RwLock::new(Names { set: set.into_iter().collect(), learned: BTreeMap::new() })))
    }

    /// Replaces the names from the settings.
    pub fn set(&self, names: impl IntoIterator<Item = (ServiceKey, String)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).set = names.into_iter().collect();
    }

    /// Replaces the names from PagerDuty's API.
    pub fn learn(&self, names: BTreeMap<ServiceKey, String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).learned = names;
    }

    /// The name of a key, if it has one.
    #[must_use]
    pub fn get(&self, key: &ServiceKey) -> Option<String> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.set.get(key).or_else(|| names.learned.get(key)).cloned()
    }

    /// The key as it is shown to people: its name and its last four characters, or only the latter.
    #[must_use]
    pub fn show(&self, key: &ServiceKey) -> String {
        self.get(key).map_or_else(|| key.to_string(), |name| format!("{name} ({key})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_settings_goes_before_a_learned_one() {
        let key = |text: &str| ServiceKey::parse(text).unwrap();
        let [one, two] = [key("0123456789abcdef0123456789abcdef"), key("NN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN")];
        let names = KeyNames::new([(one.clone(), "Payments".to_owned())]);
        names.learn([(one.clone(), "svc-1".to_owned()), (two.clone(), "Web".to_owned())].into());
        assert_eq!(names.show(&one), "Payments (…cdef)");
        assert_eq!(names.show(&two), "Web (…GLFN)");
        names.learn(BTreeMap::new());
        assert_eq!(names.show(&two), "…GLFN");
    }
}
