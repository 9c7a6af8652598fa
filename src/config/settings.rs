//! Settings from four sources, in order of precedence: flag, environment variable, file, default.
//!
//! A binary lists its settings once, as constants; everything else follows from the name.
//! `max-batch` is the flag `--max-batch`, the variable `TURRET_MAX_BATCH` and the key `max-batch`
//! of the TOML file that `--config` or `TURRET_CONFIG` names. A switch is `--no-cache`,
//! `TURRET_NO_CACHE=true` or `no-cache = true`. A repeatable setting is given as several flags, as
//! one variable with commas, or as an array. An empty variable counts as absent. Unknown variables
//! are ignored, because Kubernetes sets `TURRET_*` for a Service of that name; unknown keys are
//! mistakes.
//!
//! ```no_run
//! use turret::config::settings::{ConfigMistakes, SettingsReader, Setting, with_settings};
//!
//! const SETTINGS: &[Setting] = &[
//!     Setting::new("base", "FILE", "base file written by `turret base import`"),
//!     Setting::new("max-batch", "N", "maximum images in one forward pass").default("32"),
//!     Setting::new("good", "CLASS", "class that may pass").repeatable(),
//!     Setting::switch("quiet", "print nothing"),
//! ];
//! let command = with_settings(clap::Command::new("serve"), SETTINGS);
//! let arguments = ["serve", "--base", "b.safetensors", "--good=ok", "--good=fine"];
//! let matches = command.get_matches_from(arguments);
//!
//! let mut reader = SettingsReader::gather(SETTINGS, &matches);
//! let base = reader.get::<std::path::PathBuf>("base"); // None if missing or invalid
//! let in_range = |n: &usize| (1..=1024).contains(n);
//! let max_batch = reader.get_where("max-batch", "1 to 1024", in_range);
//! let good = reader.list::<String>("good");
//! let quiet = reader.switch("quiet");
//! let read = base.zip(max_batch);
//! let (base, max_batch) = reader.finish(read)?; // every mistake at once
//! assert_eq!((max_batch, good.len(), quiet), (32, 2, false));
//! # Ok::<(), ConfigMistakes>(())
//! ```

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr};

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use turret_client::cli::printing::ErrorLines;

const CONFIG: Setting =
    Setting::new("config", "FILE", "TOML file of settings, with the names of the flags as keys");

/// One setting of a command.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    pub value_name: &'static str,
    pub help: &'static str,
    pub default: Option<&'static str>,
    pub form: Form,
}

/// How many values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Single,
    Repeatable,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
}

impl Setting {
    pub const fn new(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self { name, value_name, help, default: None, form: Form::Single }
    }

    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value_name: "BOOL", help, default: None, form: Form::Switch }
    }

    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    pub const fn repeatable(self) -> Self {
        Self { form: Form::Repeatable, ..self }
    }

    /// Returns the name of its environment variable: `TURRET_MAX_BATCH` for `max-batch`.
    pub fn variable(&self) -> String {
        format!("TURRET_{}", self.name.to_uppercase().replace('-', "_"))
    }

    fn arg(&self) -> Arg {
        let default =
            self.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        let help = format!("{}{default} [env: {}]", self.help, self.variable());
        let arg = Arg::new(self.name).long(self.name).value_name(self.value_name).help(help);
        // So that a value of -1 is refused as a value, not as an unknown flag.
        let arg = arg.allow_negative_numbers(true);
        match self.form {
            Form::Single => arg,
            Form::Repeatable => arg.action(ArgAction::Append),
            Form::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    }
}

/// Adds the flags of the settings and `--config` to a command.
pub fn with_settings(command: Command, settings: &[Setting]) -> Command {
    command.args(settings.iter().chain([&CONFIG]).map(Setting::arg))
}

/// Where a value was given, as mistakes name it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Flag,
    Variable,
    File(String),
    Default,
}

#[derive(Debug)]
struct Given {
    values: Vec<String>,
    origin: Origin,
}

/// Reads typed values and collects every mistake.
#[derive(Debug)]
pub struct SettingsReader {
    settings: &'static [Setting],
    given: BTreeMap<&'static str, Given>,
    mistakes: Vec<String>,
}

/// Every mistake in the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid settings:{mistakes}")]
pub struct ConfigMistakes {
    #[source]
    pub mistakes: ErrorLines,
}

impl SettingsReader {
    /// Collects the values given to a command that [`with_settings`] made from the same settings.
    pub fn gather(settings: &'static [Setting], matches: &ArgMatches) -> Self {
        Self::gather_with(settings, matches, |variable| {
            // Whatever is not UTF-8 is replaced, so that the mistake is seen.
            std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
        })
    }

    fn gather_with(
        settings: &'static [Setting],
        matches: &ArgMatches,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut reader = Self { settings, given: BTreeMap::new(), mistakes: Vec::new() };
        let from_program = |setting: &Setting| {
            from_flags(setting, matches).or_else(|| from_variable(setting, &environment))
        };
        let file = from_program(&CONFIG).and_then(|given| given.values.into_iter().next());
        let mut from_file = file.map(|path| reader.read_file(&path)).unwrap_or_default();
        for setting in settings {
            let default = || setting.default.map(|value| (vec![value.to_owned()], Origin::Default));
            let in_file = from_file.remove(setting.name);
            let given = from_program(setting)
                .or(in_file)
                .or_else(|| default().map(|(values, origin)| Given { values, origin }));
            if let Some(given) = given {
                reader.given.insert(setting.name, given);
            }
        }
        reader
    }

    /// Returns the values of a file and collects its mistakes.
    fn read_file(&mut self, path: &str) -> BTreeMap<&'static str, Given> {
        let table = fs_err::read_to_string(Path::new(path))
            .map_err(|error| error.to_string())
            .and_then(|text| parse_file(path, &text));
        let table = match table {
            Ok(table) => table,
            Err(mistake) => {
                self.mistakes.push(mistake);
                return BTreeMap::new();
            }
        };
        let mut found = BTreeMap::new();
        for (key, value) in table {
            match self.settings.iter().find(|setting| setting.name == key) {
                None => self.mistakes.push(self.unknown_key(path, &key)),
                Some(setting) => match texts(setting, &value) {
                    Ok(values) => {
                        found.insert(
                            setting.name,
                            Given { values, origin: Origin::File(path.to_owned()) },
                        );
                    }
                    Err(reason) => self.mistakes.push(format!("{path}: {key}: {reason}")),
                },
            }
        }
        found
    }

    fn unknown_key(&self, path: &str, key: &str) -> String {
        let names = self.settings.iter().map(|setting| setting.name);
        let nearest = names
            .clone()
            .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
        let known = names.collect::<Vec<_>>().join(", ");
        let nearest = nearest.unwrap_or_default();
        format!("{path}: unknown key {key:?}, did you mean {nearest:?}? expected one of {known}")
    }

    /// Returns a required setting; a missing or invalid one is a mistake.
    pub fn get<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        self.require(name);
        self.optional(name)
    }

    /// Returns a required setting that passes `test`; `expected` names what does, with an example.
    pub fn get_where<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
        test: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        self.require(name);
        let value = self.given.get(name)?.values.last()?.parse().ok().filter(test);
        if value.is_none() {
            self.refuse(name, format!("expected {expected}"));
        }
        value
    }

    /// Returns a required setting whose type does not tell in plain words what it expects.
    pub fn get_expecting<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        self.get_where(name, expected, |_| true)
    }

    fn require(&mut self, name: &'static str) {
        if self.given.contains_key(name) {
            return;
        }
        let mistake = match self.settings.iter().find(|setting| setting.name == name) {
            Some(setting) => {
                let Setting { value_name, help, .. } = setting;
                let variable = setting.variable();
                format!(
                    "--{name} {value_name} is missing (or {variable}, or {name} in the file): {help}"
                )
            }
            None => format!("--{name} is not a setting of this command"),
        };
        self.mistakes.push(mistake);
    }

    /// Returns a setting that may be absent; an invalid one is a mistake.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        self.list(name).pop()
    }

    /// Returns every value of a repeatable setting; each invalid one is a mistake.
    pub fn list<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Vec<T> {
        let texts = self.given.get(name).map(|given| given.values.clone()).unwrap_or_default();
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse() {
                Ok(value) => values.push(value),
                Err(error) => self.refuse(name, error),
            }
        }
        values
    }

    /// Returns whether a switch is on; false when absent.
    pub fn switch(&mut self, name: &'static str) -> bool {
        if !self.given.contains_key(name) {
            return false;
        }
        self.get_expecting(name, "true or false").unwrap_or(false)
    }

    /// Adds a mistake: this value cannot be used. Names its source.
    pub fn refuse(&mut self, name: &'static str, reason: impl fmt::Display) {
        let Some(given) = self.given.get(name) else {
            self.mistakes.push(format!("--{name}: {reason}"));
            return;
        };
        let value = given.values.join(",");
        let variable = || self.settings.iter().find(|s| s.name == name).map(Setting::variable);
        let source = match &given.origin {
            Origin::Flag => format!("--{name} {value:?}"),
            Origin::Variable => format!("{}={value:?}", variable().unwrap_or_default()),
            Origin::File(path) => format!("{path}: {name} = {value:?}"),
            Origin::Default => format!("default of --{name}, {value:?}"),
        };
        self.mistakes.push(format!("{source}: {reason}"));
    }

    /// Returns the settings in force as text, for a log or a record.
    pub fn in_force(&self) -> BTreeMap<&'static str, String> {
        self.given.iter().map(|(name, given)| (*name, given.values.join(","))).collect()
    }

    /// Returns what was built from the values.
    ///
    /// # Errors
    /// All mistakes. The list is empty for `None` without a mistake, which no method here returns.
    pub fn finish<T>(self, built: Option<T>) -> Result<T, ConfigMistakes> {
        match built {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            Some(_) | None => Err(ConfigMistakes { mistakes: ErrorLines(self.mistakes) }),
        }
    }
}

/// Parses a file of settings; a mistake is told in a single line that gives its place.
fn parse_file(path: &str, text: &str) -> Result<toml::Table, String> {
    text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let message: Vec<&str> = error.message().lines().collect();
        format!("{path}:{line}: {}", message.join(", "))
    })
}

fn from_flags(setting: &Setting, matches: &ArgMatches) -> Option<Given> {
    if matches.value_source(setting.name) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values = matches.get_many::<String>(setting.name)?.cloned().collect();
    Some(Given { values, origin: Origin::Flag })
}

fn from_variable(setting: &Setting, environment: impl Fn(&str) -> Option<String>) -> Option<Given> {
    let text = environment(&setting.variable()).filter(|text| !text.is_empty())?;
    let values = match setting.form {
        Form::Repeatable => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Form::Single | Form::Switch => vec![text],
    };
    Some(Given { values, origin: Origin::Variable })
}

/// Returns a value of the file as the text of a flag.
fn texts(setting: &Setting, value: &toml::Value) -> Result<Vec<String>, String> {
    use toml::Value;
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(vec![value.to_string()]),
        Value::Array(values) if setting.form == Form::Repeatable => {
            let nested = values.iter().map(|value| texts(setting, value));
            nested.collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        }
        Value::Array(_) => Err("expected one value, found an array".to_owned()),
        Value::Table(_) | Value::Datetime(_) => {
            Err(format!("expected text, a number or true/false, found a {}", value.type_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting::new("base", "FILE", "base file"),
        Setting::new("max-batch", "N", "maximum images in one forward pass").default("32"),
        Setting::new("good", "CLASS", "class that may pass").repeatable(),
        Setting::switch("no-cache", "keep nothing"),
    ];

    fn reader(flags: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> SettingsReader {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turret.toml");
        let mut arguments = vec!["program".to_owned()];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        if let Some(text) = file {
            fs_err::write(&path, text).unwrap();
            arguments.extend(["--config".to_owned(), path.display().to_string()]);
        }
        let matches = with_settings(Command::new("program"), SETTINGS).get_matches_from(arguments);
        SettingsReader::gather_with(SETTINGS, &matches, |name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn flag_wins_over_variable_over_file_over_default() {
        let flag: &[&str] = &["--max-batch", "1"];
        let variable: &[(&str, &str)] = &[("TURRET_MAX_BATCH", "2")];
        let file = Some("max-batch = 3");
        let batch = |mut reader: SettingsReader| reader.get::<usize>("max-batch");
        assert_eq!(batch(reader(flag, variable, file)), Some(1));
        assert_eq!(batch(reader(&[], variable, file)), Some(2));
        assert_eq!(batch(reader(&[], &[("TURRET_MAX_BATCH", "")], file)), Some(3));
        assert_eq!(batch(reader(&[], &[], None)), Some(32));
    }

    #[test]
    fn lists_and_switches_are_read_from_every_source() {
        let good =
            |mut reader: SettingsReader| (reader.list::<String>("good"), reader.switch("no-cache"));
        let expected = (vec!["ok".to_owned(), "fine".to_owned()], true);
        assert_eq!(
            good(reader(&["--good", "ok", "--no-cache", "--good", "fine"], &[], None)),
            expected
        );
        assert_eq!(
            good(reader(&[], &[("TURRET_GOOD", "ok, fine"), ("TURRET_NO_CACHE", "true")], None)),
            expected
        );
        assert_eq!(
            good(reader(&[], &[], Some("good = ['ok', 'fine']\nno-cache = true"))),
            expected
        );
        assert!(!reader(&["--no-cache=false"], &[], Some("no-cache = true")).switch("no-cache"));
        assert_eq!(good(reader(&[], &[], None)), (Vec::new(), false));
    }

    #[test]
    fn file_that_is_not_toml_is_told_with_its_line() {
        let error = parse_file("t.toml", "base = 'b'\n[x\n").unwrap_err();
        assert!(error.starts_with("t.toml:2: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn mistakes_are_reported_all_at_once_with_their_source() {
        let file = "max-bathc = 1\ngood = [{}]\n";
        let mut reader = reader(&["--no-cache=maybe"], &[("TURRET_MAX_BATCH", "ten")], Some(file));
        let base = reader.get::<String>("base");
        let batch = reader.get::<usize>("max-batch");
        reader.switch("no-cache");
        let ErrorLines(mistakes) = reader.finish(base.zip(batch)).unwrap_err().mistakes;
        assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
        let message = mistakes.join("\n");
        for part in [
            "unknown key \"max-bathc\", did you mean \"max-batch\"?",
            "good: expected text, a number or true/false, found a table",
            "--base FILE is missing (or TURRET_BASE, or base in the file)",
            "TURRET_MAX_BATCH=\"ten\": invalid digit",
            "--no-cache \"maybe\": expected true or false",
        ] {
            assert!(message.contains(part), "{part:?} is not in:\n{message}");
        }
    }

    #[test]
    fn value_of_another_kind_names_what_is_expected() {
        let mut reader = reader(&["--max-batch", "-1"], &[], None);
        let batch = reader.get_expecting::<usize>("max-batch", "a number, such as 8");
        let message = reader.finish(batch).unwrap_err().to_string();
        assert!(message.contains("--max-batch \"-1\": expected a number, such as 8"), "{message}");
    }

    #[test]
    fn values_out_of_range_and_unreadable_files_are_mistakes() {
        let mut out_of_range = reader(&["--max-batch", "0"], &[], None);
        let batch = out_of_range.get_where("max-batch", "1 or more", |n: &usize| *n > 0);
        let message = out_of_range.finish(batch).unwrap_err().to_string();
        assert!(message.contains("--max-batch \"0\": expected 1 or more"), "{message}");
        let missing = reader(&[], &[("TURRET_CONFIG", "/nowhere/turret.toml")], None);
        assert!(missing.finish(Some(())).unwrap_err().to_string().contains("/nowhere/turret.toml"));
        assert!(reader(&[], &[], Some("base = ")).finish(Some(())).is_err());
        assert!(reader(&[], &[], Some("base = ['a', 'b']")).finish(Some(())).is_err());
    }

    #[test]
    fn help_shows_variable_and_default_of_every_flag() {
        let help = with_settings(Command::new("program"), SETTINGS).render_help().to_string();
        for part in
            ["--max-batch <N>", "[default: 32]", "[env: TURRET_MAX_BATCH]", "--config <FILE>"]
        {
            assert!(help.contains(part), "{part:?} is not in:\n{help}");
        }
    }

    #[test]
    fn settings_in_force_include_defaults() {
        let in_force = reader(&["--good", "a", "--good", "b"], &[], None).in_force();
        assert_eq!(in_force.get("good").map(String::as_str), Some("a,b"));
        assert_eq!(in_force.get("max-batch").map(String::as_str), Some("32"));
        assert!(!in_force.contains_key("base"));
    }
}
