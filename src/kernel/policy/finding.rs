//! What is wrong with a policy, by name, and where in it.

use std::fmt;

use serde::Serialize;

macro_rules! flaws {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $severity:ident, $next:literal;)*) => {
        /// One rule of how a policy is written, that a policy breaks. Closed; one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Flaw {
            $($(#[$doc])* $variant,)*
        }

        impl Flaw {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What its author can do.
            pub fn next_step(self) -> &'static str {
                match self { $(Self::$variant => $next,)* }
            }

            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
        }
    };
}

/// How much a flaw weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth a look; the policy can be put in force.
    Warning,
    /// Not known here: a warning when a policy is checked, an error when it is put in force.
    Unknown,
    /// Not a policy.
    Error,
}

flaws! {
    TooLarge = "policy_too_large", Error, "split the policy, or write fewer alternatives";
    TooDeep = "policy_too_deep", Error, "write the policy flatter";
    Malformed = "policy_malformed", Error, "correct the file at the place that is named";
    DuplicateKey = "policy_duplicate_key", Error, "keep one of the two members";
    ImpreciseNumber = "policy_number_imprecise", Error, "write a plain number of at most 15 digits";
    UnknownMember = "policy_member_unknown", Error, "see docs/POLICY.md for the members there are";
    Shape = "policy_shape", Error, "see docs/POLICY.md for the shape";
    Empty = "policy_empty", Error, "write at least one role, or leave the member out";
    RoleName = "policy_role_name", Error, "use 1 to 63 letters, digits, '-' or '_'";
    RoleTwice = "policy_role_twice", Error, "join what both say into one role";
    RoleUnknown = "policy_role_unknown", Unknown, "use a role of the signed catalogue (`countersign catalogue show`), or have both parties sign one that has it";
    Action = "policy_action_unknown", Error, "the only action is \"invoke\"";
    ToolName = "policy_tool_name", Error, "write the tool's name as tools/list has it";
    ToolUnknown = "policy_tool_unknown", Unknown, "see `countersign catalogue show` for the tools there are";
    ToolTwice = "policy_tool_denied_twice", Error, "name each denied tool once";
    DeniedAndPermitted = "policy_denied_and_permitted", Warning, "take the permission away: deny_tools wins";
    TransactionRule = "policy_transaction_rule", Error, "see docs/POLICY.md for what a transaction rule may say";
    ParameterName = "policy_parameter_name", Error, "write the parameter's name as the tool's schema has it";
    ParameterUnknown = "policy_parameter_unknown", Unknown, "see the tool's input schema for its parameters";
    NoSchema = "constraint_no_schema", Error, "write a JSON Schema object (2020-12)";
    KeywordUnknown = "constraint_keyword_unknown", Error, "use a keyword of JSON Schema 2020-12";
    KeywordRefused = "constraint_keyword_refused", Error, "write the fragment without it: a fragment stands alone";
    KeywordVacuous = "constraint_keyword_vacuous", Error, "it would hold for every value: use a keyword for the parameter's type";
    ValueVacuous = "constraint_value_vacuous", Error, "it can never be equal: write a value of the parameter's type";
    Reference = "constraint_reference", Error, "refer only to #/$defs/NAME of the same fragment, and in no circle";
    FragmentTooLarge = "constraint_too_large", Error, "write a smaller fragment";
    Pattern = "constraint_pattern", Error, "write a smaller regular expression, without look-around and back references";
    PatternOpen = "constraint_pattern_open", Warning, "it may match inside a longer text: begin it with ^ and end it with $";
    Format = "constraint_format_unknown", Error, "use a format of JSON Schema 2020-12";
}

/// One flaw at one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub flaw: Flaw,
    /// The file, role, permission and parameter, as far as they are known: a path for people.
    pub place: String,
    pub detail: String,
}

impl Finding {
    pub fn new(flaw: Flaw, place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { flaw, place: place.into(), detail: detail.into() }
    }

    /// The same, of this file.
    #[must_use]
    pub fn of_file(self, file: &str) -> Self {
        let place = if self.place.is_empty() { file.to_owned() } else { format!("{file}: {}", self.place) };
        Self { place, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { f.write_str(&self.detail) } else { write!(f, "{}: {}", self.place, self.detail) }
    }
}
