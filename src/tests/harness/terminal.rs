//! A terminal for a command that asks a person.

use std::fs::File;
use std::io::{Read, Write};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::command::{CommandOutput, GatewayCommand};

/// Runs `command` at a terminal of its own: types each answer, and an enter, when its prompt was read. Answers how
/// it ended, and everything that the terminal showed of what was typed.
pub(crate) fn at_a_terminal(
    command: &mut GatewayCommand,
    answers: &[(&str, &str)],
) -> (CommandOutput, String) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&person).expect("it is ours");
    unlockpt(&person).expect("it is ours");
    let path = ptsname(&person, Vec::new()).expect("it has a name");
    let terminal = File::options().read(true).write(true).open(path.to_str().expect("ASCII"));
    let mut child = command.spawn_at(terminal.expect("it can be opened"));
    let mut person = File::from(person);
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let mut said = String::new();
    for (prompt, answer) in answers {
        while !said.ends_with(prompt) {
            let mut byte = [0];
            let count = stderr.read(&mut byte).expect("stderr can be read");
            assert_eq!(count, 1, "no {prompt:?}, but {said:?}");
            said.push(char::from(byte[0]));
        }
        person.write_all(format!("{answer}\n").as_bytes()).expect("it listens");
    }
    stderr.read_to_string(&mut said).expect("stderr is UTF-8");
    let output = child.wait_with_output().expect("a child of ours");
    // The command has gone, and with it the other end: what is left to read ends in an error.
    let mut shown = Vec::new();
    let _ = person.read_to_end(&mut shown);
    let stdout = String::from_utf8(output.stdout).expect("output is UTF-8");
    let output = CommandOutput { code: output.status.code(), stdout, stderr: said };
    (output, String::from_utf8_lossy(&shown).into_owned())
}
