import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../cluster/package.ts';
import { checkOutput } from './context.ts';

export const version: string = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).version;
/** The Kubernetes version whose API is served. */
export const kubernetesVersion = 'v1.37.2';

export const versionCommand = () =>
  new Command('version')
    .description('print the version of kumulus and of the Kubernetes API that it serves')
    .option('-o, --output <format>', 'json')
    .action((options: { output?: string }) => {
      checkOutput(options.output, ['json']);
      if (options.output === 'json')
        console.log(
          JSON.stringify({ kumulus: version, kubernetes: kubernetesVersion, node: process.version, platform: `${process.platform}/${process.arch}` }),
        );
      else console.log(`kumulus ${version} (Kubernetes ${kubernetesVersion}, Node.js ${process.version}, ${process.platform}/${process.arch})`);
    });
