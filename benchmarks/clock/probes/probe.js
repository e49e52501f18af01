// The wall clock as Node has it, in whole milliseconds: see probe.c for what it reads and prints. Beside it
// is the monotonic clock, for it makes no system call of its own.
"use strict";

function cost(count) {
  let best = Infinity, sum = 0;
  for (let round = 0; round < 20; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < count; i++) sum += Date.now();
    best = Math.min(best, Number(process.hrtime.bigint() - start));
  }
  return sum && best / count;
}

async function answer(line) {
  const [what, count, gap] = line.split(" ");
  const lines = [];
  if (what === "sample")
    for (let i = 0; i < Number(count); i++) {
      for (let shot = 0; shot < 3; shot++) {
        const before = process.hrtime.bigint(), told = Date.now(), after = process.hrtime.bigint();
        lines.push(`${before} ${told}000000 ${after}`);
      }
      if (Number(gap)) await new Promise((then) => setTimeout(then, Number(gap) / 1e6));
    }
  else if (what === "cost") lines.push(cost(Number(count)).toFixed(2));
  else if (what === "load") setInterval(() => { for (let i = 0; i < 1e5; i++) Date.now(); }, 1);
  console.log([...lines, "."].join("\n"));
}

(async () => {
  for (let i = 0; i < 20000; i++) Date.now();
  console.log("ready");
  for await (const line of require("readline").createInterface({ input: process.stdin })) await answer(line);
  process.exit(0);
})();
