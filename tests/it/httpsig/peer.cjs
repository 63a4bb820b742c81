// Signs and verifies requests with the package http-message-signatures, which is not ours: as peer.py does.
// The package is found next to the program that NODE_PATH names.

const { createSigner, createVerifier, httpbis } = require('http-message-signatures');

async function main(asked) {
    const { method, url, headers } = asked;
    if (asked.do === 'sign') {
        const signed = await httpbis.signMessage({
            key: createSigner(asked.key, 'ecdsa-p256-sha256', asked.keyid),
            name: 'node',
            params: ['created', 'expires', 'nonce', 'keyid', 'alg', 'tag'],
            paramValues: {
                created: new Date(asked.created * 1000),
                expires: new Date(asked.expires * 1000),
                nonce: asked.nonce,
                tag: asked.tag,
            },
            fields: asked.components,
        }, { method, url, headers });
        return { 'signature-input': signed.headers['Signature-Input'], signature: signed.headers.Signature };
    }
    const verified = await httpbis.verifyMessage({
        keyLookup: ({ keyid, tag }) => {
            if (keyid !== asked.keyid || tag !== asked.tag) throw new Error(`another key: ${keyid} ${tag}`);
            return { verify: createVerifier(asked.key, 'ecdsa-p256-sha256') };
        },
        requiredParams: ['created', 'expires', 'nonce', 'keyid', 'tag'],
        requiredFields: asked.components,
    }, { method, url, headers });
    if (verified !== true) throw new Error('not verified');
    return asked.components;
}

let text = '';
process.stdin.on('data', (chunk) => { text += chunk; });
process.stdin.on('end', () => {
    main(JSON.parse(text)).then((answer) => console.log(JSON.stringify(answer))).catch((error) => {
        console.error(error);
        process.exitCode = 1;
    });
});
