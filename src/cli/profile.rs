//! `countersign profile …`: what each kind of certificate looks like.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::table::table;
use crate::kernel::credential::profile::Profile;
use crate::ops::failure::Failure;

/// List and show the certificate profiles that are compiled in.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
The profiles are certs/profiles/*.toml, compiled in: the CA builds by them, the HSM worker refuses
by them before a key signs. Changing an installed copy changes nothing; [pki] in countersign.toml
may shorten lives.

Examples:
  countersign profile list
  countersign profile show agent-b")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Every profile: issuer, key, life, usage.
    #[command(after_help = "Examples:\n  countersign profile list\n  countersign profile list --json")]
    List,
    /// One profile, to the last extension.
    #[command(after_help = "Examples:\n  countersign profile show agent-b\n  countersign profile show agent-b --json")]
    Show {
        /// The profile's name.
        #[arg(value_parser = profile)]
        name: Profile,
    },
}

/// Carries the verb out. Asks nobody: the profiles are the program's own.
///
/// # Errors
/// None.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List => {
            let items: Vec<Value> = Profile::ALL.into_iter().map(listed).collect();
            let list = json!({ "items": items, "next": null });
            context.print(&list, |list| table(list, COLUMNS, "there are no profiles"));
        }
        Verb::Show { name } => context.print(&json!(name.table()), |_| shown(name)),
    }
    Ok(())
}

const COLUMNS: &[(&str, &str)] = &[
    ("PROFILE", "name"),
    ("ISSUER", "issuer"),
    ("KEY", "algorithms"),
    ("DAYS", "default_days"),
    ("AT MOST", "max_days"),
    ("USAGE", "usage"),
    ("WHAT FOR", "about"),
];

fn profile(name: &str) -> Result<Profile, String> {
    Profile::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Profile::ALL.into_iter().map(Profile::name).collect();
        format!("a profile is one of {}", known.join(", "))
    })
}

fn listed(profile: Profile) -> Value {
    let table = profile.table();
    let usage = table.extensions.extended_key_usage.map(|rule| rule.usage.to_string());
    json!({
        "name": table.name,
        "about": table.about,
        "issuer": table.issued_by(),
        "algorithms": table.key.algorithms,
        "default_days": table.life.default_days,
        "max_days": table.life.max_days,
        "usage": usage.unwrap_or_else(|| table.key_usages()),
    })
}

fn shown(profile: Profile) -> String {
    let table = profile.table();
    let mut lines = vec![
        format!("{}: {}", table.name, table.about),
        format!("  issuer     {}", table.issued_by()),
        format!("  subject    {}", table.subject_form()),
        format!("  key        {} for {}", table.key_algorithms(), table.key.purpose.slug()),
        format!("  life       {} days, at most {}", table.life.default_days, table.life.max_days),
        "  extensions, these and no others:".to_owned(),
    ];
    for extension in table.extensions.expected() {
        let critical = if extension.critical { "critical" } else { "" };
        lines.push(format!("    {:<25} {critical:<8}  {}", extension.name, table.rule_of(&extension)));
    }
    lines.join("\n")
}
