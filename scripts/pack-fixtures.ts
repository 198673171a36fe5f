/**
 * Packs a folder of Kubernetes objects (NAME.json and NAME.pb, the same object in both formats) into the one file that
 * src/api/protobuf.test.ts reads:
 *
 *     node bin/node24.js scripts/pack-fixtures.ts DIR
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = process.argv[2];
if (!folder) {
  console.error('usage: pack-fixtures.ts DIR');
  process.exit(2);
}
const packed: Record<string, { json: unknown; protobuf: string }> = {};
for (const file of readdirSync(folder).sort()) {
  if (!file.endsWith('.json')) continue;
  const name = file.slice(0, -5);
  packed[name] = {
    json: JSON.parse(readFileSync(join(folder, file), 'utf8')),
    protobuf: readFileSync(join(folder, `${name}.pb`)).toString('base64'),
  };
}
const target = join(import.meta.dirname, '../test/fixtures/kubernetes-objects.json.gz');
writeFileSync(target, gzipSync(JSON.stringify(packed), { level: 9 }));
