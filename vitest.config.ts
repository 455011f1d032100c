import { defineConfig } from "vitest/config";

// Two projects that every change must pass: what needs no server runs on every core, its files one after the other in
// the same process, for most of their time would go into loading the same modules again; what starts servers, agents
// and control planes waits for them nearly half of its time, so that three files at once are what two cores can do, and
// no more, so that its time-outs hold there. A third one, soak, goes on for as long as it is told to and is run by
// itself.
const heavy = [
  "tests/scenarios/**/*.test.ts",
  "tests/integration/**/*.test.ts",
  "tests/faults/**/*.test.ts",
  "tests/golden/**/*.test.ts",
  "tests/contracts/**/*.test.ts",
];
const soak = ["tests/soak/**/*.test.ts"];

export default defineConfig({
  test: {
    environment: "node",
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["proto/kit/**/*.test.ts", "*/src/**/*.test.ts", "deploy/**/*.test.ts", "tests/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...heavy, ...soak],
          isolate: false,
          testTimeout: 15_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "system",
          include: heavy,
          globalSetup: "tests/support/templates/setup.ts",
          setupFiles: "tests/support/templates/keep-compiled.ts",
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // What is awaited may take its time on a busy machine.
          expect: { poll: { timeout: 20_000 } },
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "soak",
          include: soak,
          globalSetup: "tests/support/templates/setup.ts",
          hookTimeout: 120_000,
          maxWorkers: 1,
          disableConsoleIntercept: true,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
