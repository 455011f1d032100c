import { refuseMisgiven } from "@coppice/proto/kit/command-line/refuse-misgiven";
import { Command } from "commander";
import type { Execute } from "./command.ts";
import { addAuditCommands } from "./commands/audit.ts";
import { addBackupCommands } from "./commands/backup.ts";
import { addClusterCommands } from "./commands/cluster.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addContextCommands } from "./commands/context.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addHostCommands } from "./commands/host.ts";
import { addLoginCommand } from "./commands/login.ts";
import { addOperationCommands } from "./commands/operation.ts";
import { addRepositoryCommands } from "./commands/repository.ts";
import { addRestoreCommands } from "./commands/restore.ts";
import { addStatusCommand } from "./commands/status.ts";
import { addTokenCommands } from "./commands/token.ts";
import { addWalCommands } from "./commands/wal.ts";
import type { Terminal } from "./output/terminal.ts";

/** The whole tree of commands. Errors in a command line are thrown as CommanderError or Failure and not yet printed. */
export function createCommandTree(execute: Execute, terminal: Pick<Terminal, "out" | "err">, version: string): Command {
  const program = new Command("coppice")
    .description("Backup and recovery for fleets of PostgreSQL clusters")
    .version(`coppice ${version}`, "--version", "print the version")
    .helpOption("-h, --help", "print help")
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.err, outputError: () => {} })
    .showSuggestionAfterError();
  addStatusCommand(program, execute);
  addDoctorCommand(program, execute);
  addHostCommands(program, execute);
  addClusterCommands(program, execute);
  addRepositoryCommands(program, execute);
  addBackupCommands(program, execute);
  addWalCommands(program, execute);
  addRestoreCommands(program, execute);
  addOperationCommands(program, execute);
  addTokenCommands(program, execute);
  addAuditCommands(program, execute);
  addLoginCommand(program, execute);
  addContextCommands(program, execute);
  addCompletionCommand(program, execute, () => program);
  program.addHelpText(
    "after",
    "\nExamples:\n  coppice login backup.example.org:7443\n  coppice status\n  coppice backup create shop\n",
  );
  refuseMisgiven(program);
  return program;
}
