import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "../..");
const usage = "usage: npm run soak [-- [kill|wal-ledger] --minutes 30 --seed N]";
const soaks = ["kill", "wal-ledger"];

/** A positive whole number below 2^32. */
function readNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value >= 2 ** 32) throw new Error(`--${name} ${text} is no such number`);
  return value;
}

/** Runs each test of tests/soak, or the ones that are named, for so long, with choices that the seed decides; gives vitest's exit code. */
async function main(args: string[]): Promise<number> {
  let minutes: number;
  let seed: number;
  let names: string[];
  try {
    const anySeed = String(1 + Math.floor(Math.random() * 1_000_000));
    const options = {
      minutes: { type: "string", default: "30" },
      seed: { type: "string", default: anySeed },
    } as const;
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
    const unknown = positionals.find((name) => !soaks.includes(name));
    if (unknown !== undefined) throw new Error(`there is no ${unknown}`);
    names = positionals;
    minutes = readNumber("minutes", values.minutes);
    seed = readNumber("seed", values.seed);
  } catch (error) {
    process.stderr.write(`soak: ${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
    return 2;
  }
  const again = `npm run soak -- ${names.map((name) => `${name} `).join("")}--minutes ${minutes} --seed ${seed}`;
  process.stdout.write(`soak: ${minutes} min, seed ${seed}; the same choices again: ${again}\n`);
  const files = names.map((name) => `tests/soak/${name}.test.ts`);
  const run = [join(root, "node_modules/vitest/vitest.mjs"), "run", "--project", "soak", ...files];
  const vitest = spawn(process.execPath, run, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, COPPICE_SOAK_MINUTES: String(minutes), COPPICE_SOAK_SEED: String(seed) },
  });
  // A terminal's Ctrl-C reaches both; this one waits for the other to clear away.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => vitest.kill("SIGTERM"));
  const [code] = (await once(vitest, "exit")) as [number | null];
  return code ?? 1;
}

process.exitCode = await main(process.argv.slice(2));
