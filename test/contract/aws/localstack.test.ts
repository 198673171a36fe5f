import { startLocalstack } from '../../../localstack/host/start.ts';
import { awsContract } from './contract.ts';
import { Peer } from './peer.ts';

// LocalStack takes an access key of 12 digits as the account: state of its own for this file.
const account = '100000000002';

awsContract(
  'localstack',
  async () => {
    const { url, stop } = await startLocalstack();
    return { peer: new Peer(url, account, { accessKeyId: account, secretAccessKey: 'test' }), stop };
  },
  // The first time it is installed.
  900_000,
);
