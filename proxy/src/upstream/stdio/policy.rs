//! Which commands may be started, and with which environment.
//!
//! The same check stands at every write of an upstream and again before each start, so that a row that
//! came into the database by another way starts nothing either. A list of commands is a restriction, no
//! boundary: `python3 -c` runs anything. The boundary is the admin role and the switch that turns stdio off.

use std::collections::BTreeMap;

use sql::model::{ConnParams, FieldError, Value};

/// Variables by which the environment makes a program load other code than its own.
const CODE_LOADING: [&str; 5] = ["NODE_OPTIONS", "PYTHONSTARTUP", "PYTHONPATH", "PYTHONHOME", "BASH_ENV"];

/// The same, by how they begin: the dynamic linkers of Linux and macOS.
const CODE_LOADING_PREFIXES: [&str; 2] = ["LD_", "DYLD_"];

/// The gateway's own variables; some hold its secrets, so no child may even look as if it had them.
const OWN_PREFIX: &str = "MPG_";

/// Bytes of command, arguments and environment together: the kernel takes no single one above 128 KiB, and
/// all of them come from a form.
const BYTES_MAX: usize = 128 * 1024;

/// What the operator allows to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioPolicy {
    /// `MPG_STDIO_ENABLED`: whether anything is started at all.
    pub enabled: bool,
    /// `MPG_STDIO_COMMANDS`: the only commands that may be started; `None` allows any.
    pub commands: Option<Vec<String>>,
}

impl Default for StdioPolicy {
    fn default() -> Self {
        Self { enabled: true, commands: None }
    }
}

impl StdioPolicy {
    /// Everything that stands against starting this; parameters of other transports pass.
    pub fn check(&self, params: &ConnParams) -> Result<(), Vec<FieldError>> {
        let ConnParams::Stdio { command, env, .. } = params else { return Ok(()) };
        let mut errors = check_spec(params).err().unwrap_or_default();
        if !self.enabled {
            errors
                .push(FieldError::new("/transport", "stdio upstreams are switched off by MPG_STDIO_ENABLED"));
        }
        if let Some(allowed) = &self.commands {
            if !allowed.contains(command) {
                errors.push(FieldError::new(
                    "/connParams/command",
                    format!("must be one of those in MPG_STDIO_COMMANDS: {}", allowed.join(", ")),
                ));
            }
            if env.contains_key("PATH") {
                // It would decide which file a listed name stands for.
                errors.push(env_error("PATH", "can't be set while MPG_STDIO_COMMANDS restricts commands"));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// What no policy allows: what can't be started, and an environment that loads foreign code.
pub fn check_spec(params: &ConnParams) -> Result<(), Vec<FieldError>> {
    let ConnParams::Stdio { command, args, env, cwd } = params else { return Ok(()) };
    let mut errors = Vec::new();
    if command.trim().is_empty() {
        errors.push(FieldError::new("/connParams/command", "is required"));
    } else if command.starts_with('-') || command.chars().any(char::is_control) {
        errors.push(FieldError::new("/connParams/command", "must be the name or path of a program"));
    }
    for (position, _) in args.iter().enumerate().filter(|(_, value)| value.expose().contains('\0')) {
        errors.push(FieldError::new(format!("/connParams/args/{position}"), "must not contain NUL"));
    }
    errors.extend(env.iter().filter_map(|(name, value)| check_variable(name, value)));
    if let Some(directory) = cwd
        && (!directory.starts_with('/') || directory.chars().any(char::is_control))
    {
        errors.push(FieldError::new("/connParams/cwd", "must be an absolute path"));
    }
    if bytes(command, args, env) > BYTES_MAX {
        errors.push(FieldError::new("/connParams", format!("must not exceed {BYTES_MAX} bytes in all")));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn check_variable(name: &str, value: &Value) -> Option<FieldError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Some(env_error(name, "isn't the name of a variable"));
    }
    if CODE_LOADING.contains(&name) || CODE_LOADING_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(env_error(name, "isn't allowed: it makes programs load other code"));
    }
    if name.starts_with(OWN_PREFIX) {
        return Some(env_error(name, "isn't allowed: these variables are the gateway's own"));
    }
    value.expose().contains('\0').then(|| env_error(name, "must not contain NUL"))
}

/// An error at a variable; its name is a key of a JSON object, escaped as RFC 6901 asks.
fn env_error(name: &str, message: &str) -> FieldError {
    FieldError::new(format!("/connParams/env/{}", name.replace('~', "~0").replace('/', "~1")), message)
}

fn bytes(command: &str, args: &[Value], env: &BTreeMap<String, Value>) -> usize {
    let args: usize = args.iter().map(|value| value.expose().len()).sum();
    let env: usize = env.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
    command.len() + args + env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdio(command: &str, env: &[(&str, &str)]) -> ConnParams {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), Value::Plain((*value).to_owned())));
        ConnParams::Stdio { command: command.into(), args: Vec::new(), env: env.collect(), cwd: None }
    }

    fn pointers(outcome: Result<(), Vec<FieldError>>) -> Vec<String> {
        outcome.err().unwrap_or_default().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn t26_a_listed_command_is_matched_to_the_letter() {
        let policy = StdioPolicy { enabled: true, commands: Some(vec!["npx".into(), "uvx".into()]) };
        assert_eq!(policy.check(&stdio("npx", &[])), Ok(()));
        for command in ["sh", "npx -y x", "./npx", "../npx", "npx\n", "/usr/bin/npx", "NPX", "", " npx"] {
            let found = pointers(policy.check(&stdio(command, &[])));
            assert!(found.iter().any(|pointer| pointer == "/connParams/command"), "{command:?}");
        }
        assert_eq!(pointers(policy.check(&stdio("npx", &[("PATH", "/tmp")]))), ["/connParams/env/PATH"]);
    }

    #[test]
    fn t26_no_variable_that_loads_code_and_none_of_our_own() {
        let refused = [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "NODE_OPTIONS",
            "PYTHONSTARTUP",
            "PYTHONPATH",
            "PYTHONHOME",
            "BASH_ENV",
            "MPG_ENCRYPTION_KEY",
        ];
        for name in refused {
            let found = pointers(StdioPolicy::default().check(&stdio("npx", &[(name, "x")])));
            assert_eq!(found, [format!("/connParams/env/{name}")]);
        }
        assert_eq!(check_spec(&stdio("npx", &[("PATH", "/bin"), ("TOKEN", "x")])), Ok(()));
    }

    #[test]
    fn the_switch_turns_all_of_it_off() {
        let policy = StdioPolicy { enabled: false, commands: None };
        assert_eq!(pointers(policy.check(&stdio("npx", &[]))), ["/transport"]);
        let http = ConnParams::Http { url: "http://127.0.0.1/".into(), headers: BTreeMap::new() };
        assert_eq!(policy.check(&http), Ok(()));
    }

    #[test]
    fn reports_everything_that_cannot_be_started_together() {
        let params = ConnParams::Stdio {
            command: "--exec-under=1".into(),
            args: vec![Value::Plain("fine".into()), Value::Plain("a\0b".into())],
            env: [("a=b/~".into(), Value::Plain("x".into())), ("A".into(), Value::Secret("\0".into()))]
                .into(),
            cwd: Some("relative".into()),
        };
        let expected = [
            "/connParams/command",
            "/connParams/args/1",
            "/connParams/env/A",
            "/connParams/env/a=b~1~0",
            "/connParams/cwd",
        ];
        assert_eq!(pointers(check_spec(&params)), expected);
        let long = "x".repeat(BYTES_MAX);
        assert_eq!(pointers(check_spec(&stdio("npx", &[("A", &long)]))), ["/connParams"]);
    }
}
