// A reporter of node:test: a row for each test, a column for each suite within the outermost one, and what failed below it.
//   node --test --test-reporter=./lib/table.mjs FILE

const MARKS = { pass: 'ok', skip: '-', fail: 'FAILED' };
const COLUMN = 8;

export default async function* table(source) {
  const rows = new Map();
  const columns = [];
  const failures = [];
  let leaves = [];
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const outcome = data.skip === undefined ? type.slice(5) : 'skip';
    if (data.nesting === 1) {
      columns.push(data.name);
      for (const leaf of leaves) rows.set(leaf.name, [...(rows.get(leaf.name) ?? []), [columns.length - 1, leaf.outcome]]);
      failures.push(...leaves.filter((leaf) => leaf.outcome === 'fail').map((leaf) => `${data.name}: ${leaf.name}: ${leaf.error}`));
      leaves = [];
    } else if (data.nesting > 1 && data.details.type !== 'suite') leaves.push({ name: data.name, outcome, error: data.details.error?.cause?.message });
  }
  const width = Math.max(...[...rows.keys()].map((name) => name.length));
  for (const [number, name] of columns.entries()) yield `${String(number + 1).padStart(2)}  ${name}\n`;
  yield `\n${' '.repeat(width)}${columns.map((_, index) => String(index + 1).padStart(COLUMN)).join('')}\n`;
  for (const [name, outcomes] of rows) {
    const at = new Map(outcomes);
    yield `${name.padEnd(width)}${columns.map((_, index) => (MARKS[at.get(index)] ?? '').padStart(COLUMN)).join('')}\n`;
  }
  yield failures.length > 0 ? `\n${failures.join('\n\n')}\n` : `\nall of ${columns.length} columns hold\n`;
}
