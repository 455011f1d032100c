import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "../..");
const usage = "usage: npm run soak [-- --minutes 30 --seed N]";

/** A positive whole number below 2^32. */
function readNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value >= 2 ** 32) throw new Error(`--${name} ${text} is no such number`);
  return value;
}

/** Runs the tests of tests/soak for so long, with choices that the seed decides; gives vitest's exit code. */
async function main(args: string[]): Promise<number> {
  let minutes: number;
  let seed: number;
  try {
    const anySeed = String(1 + Math.floor(Math.random() * 1_000_000));
    const options = {
      minutes: { type: "string", default: "30" },
      seed: { type: "string", default: anySeed },
    } as const;
    const { values } = parseArgs({ args, options });
    minutes = readNumber("minutes", values.minutes);
    seed = readNumber("seed", values.seed);
  } catch (error) {
    process.stderr.write(`soak: ${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
    return 2;
  }
  const again = `npm run soak -- --minutes ${minutes} --seed ${seed}`;
  process.stdout.write(`soak: ${minutes} min, seed ${seed}; the same choices again: ${again}\n`);
  const vitest = spawn(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", "--project", "soak"], {
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
