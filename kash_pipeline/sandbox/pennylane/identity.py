"""`/me`: whom a token speaks for.

Only the answer belongs here. Finding the identity of a token belongs to oauth.py.
"""

from kash_pipeline.sandbox.pennylane.answers import Json
from kash_pipeline.sandbox.pennylane.call import Answer, Call


def me(call: Call) -> Answer:
    """The company and the scopes; the user is null for a company API token (null is declared possible)."""
    user: Json = {
        "id": 4410027,
        "first_name": "Camille",
        "last_name": "Martin",
        "email": "camille.martin@example.com",
        "locale": "fr",
    }
    identity = call.identity
    return Answer(
        200,
        {
            "user": user if identity.user else None,
            "company": {
                "id": identity.company_id,
                "name": identity.company_name,
                "reg_no": identity.reg_no,
                "accounting_logic": "FR_PCG",
            },
            "scopes": list(identity.scopes),
        },
    )


HANDLERS = {"getMe": me}
