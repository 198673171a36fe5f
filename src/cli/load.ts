import { Command } from 'commander';
import { requireRecord } from '../cluster/state.ts';
import { defaultName, progressFor } from './context.ts';

export function loadCommand(): Command {
  const load = new Command('load').description('bring images into a cluster');
  load
    .command('image <ARCHIVE>')
    .description("push an image archive (OCI layout or docker save) to the cluster's registry, from which every node pulls it")
    .option('--name <name>', 'name of the cluster', defaultName)
    .option('--image <reference>', 'REPOSITORY:TAG to push it as (default: the name in the archive)')
    .option('-q, --quiet', 'print no progress')
    .action(async (archive: string, options: { name: string; image?: string; quiet?: boolean }) => {
      const { loadImage } = await import('../cluster/images.ts');
      const record = requireRecord(options.name);
      const progress = progressFor(options);
      const references = await progress.step(`Loading ${archive}`, () => loadImage(record, archive, options.image));
      console.log(references.join('\n'));
    });
  return load;
}
