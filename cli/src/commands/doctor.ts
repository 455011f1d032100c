import type { Command } from "commander";
import { Option } from "commander";
import { ListFindingsResponseSchema } from "@coppice/proto/gen/coppice/control/v1/finding";
import { addCommand, type Execute } from "../command.ts";
import { exitCodes } from "../exit-code.ts";
import { formatFindings } from "../output/findings.ts";
import { protoJson } from "../output/proto-json.ts";
import type { Session } from "../session.ts";

interface DoctorOptions {
  readonly check?: boolean;
}

/** `coppice doctor` */
export function addDoctorCommand(program: Command, execute: Execute): void {
  addCommand<DoctorOptions>(program, execute, {
    name: "doctor",
    summary: "everything that is wrong now, each with the command that mends it",
    options: [new Option("--check", "exit with 1 when anything is wrong")],
    examples: ["coppice doctor", "coppice doctor --check"],
    run: doctor,
  });
}

async function doctor(session: Session, { check }: DoctorOptions): Promise<number> {
  const api = await session.api();
  const response = await api.findings.listFindings({});
  const { findings } = response;
  await session.answer({
    json: () => protoJson(ListFindingsResponseSchema, response),
    table: () =>
      findings.length === 0
        ? session.success("nothing is wrong: no findings")
        : formatFindings(findings, session.terminal.paint, session.now()),
    names: () => findings.map(({ id }) => id),
  });
  return check && findings.length > 0 ? exitCodes.failed : exitCodes.done;
}
