"""A Z report as a PDF, in French, for the accountant who opens the closing entry.

Only form belongs here: words, columns, amounts as text. The bytes hang on the figures alone: no clock, no random ids,
no compression (zlib's output differs between builds), the fonts every PDF reader has.
"""

import io
from collections.abc import Sequence
from typing import Any

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import simpleSplit
from reportlab.platypus import BaseDocTemplate, Frame, KeepTogether, PageTemplate, Table

from kash_pipeline.accounting.chart import french_day, french_rate
from kash_pipeline.evidence.figures import Method, ZFigures
from kash_pipeline.evidence.reading import Piece

TABLES = {
    "orders": "Tickets",
    "order_lines": "Lignes des tickets",
    "order_vat": "TVA des tickets",
    "payments": "Règlements",
    "closings": "Clôtures",
    "closing_counts": "Comptages",
    "cash_movements": "Mouvements d'espèces",
}
MOVEMENTS = {"withdrawal": "Prélèvements", "deposit": "Apports", "expense": "Dépenses", "float": "Fonds de caisse"}

_WIDTH = A4[0] - 36 * mm
_TEXT, _BOLD, _FIXED = "Helvetica", "Helvetica-Bold", "Courier"
_SIZE = 9
_PAD = 3


def render(figures: ZFigures, piece: Piece | None) -> bytes:
    """The report as PDF bytes; `piece` is the entry it belongs to, None when the register-day has no closing entry."""
    out = io.BytesIO()
    title = f"Rapport Z {figures.register_name} {french_day(figures.business_day)}"
    document = BaseDocTemplate(
        out, pagesize=A4, invariant=1, pageCompression=0, title=title, author=figures.shop_name, lang="fr",
        leftMargin=18 * mm, rightMargin=18 * mm, topMargin=16 * mm, bottomMargin=16 * mm,
    )  # fmt: skip

    def foot(canvas: Any, _: Any) -> None:
        canvas.setFont(_TEXT, 7)
        canvas.drawString(18 * mm, 9 * mm, f"{figures.shop_name} - {title} - établi par kash_pipeline")
        canvas.drawRightString(A4[0] - 18 * mm, 9 * mm, f"page {canvas.getPageNumber()}")

    frame = Frame(document.leftMargin, document.bottomMargin, document.width, document.height, 0, 0, 0, 0)
    document.addPageTemplates([PageTemplate(frames=[frame], onPage=foot)])
    story: list[Any] = [_heading("Rapport Z de caisse", 16), _head(figures, piece)]
    for heading, table, note in (
        ("Ventes par taux de TVA", _rates(figures), ""),
        ("Encaissements", _methods(figures), _on_account(figures)),
        ("Clôtures", _closings(figures), ""),
        ("Mouvements d'espèces", _movements(figures), ""),
        ("Empreinte des données de caisse (SHA-256)", _hashes(figures), _how(figures)),
    ):
        parts = [_heading(heading, 11), table, *([_note(note)] if note else [])]
        # Kept on one page, unless there is more than a page of it.
        story += [KeepTogether(parts)] if table is not None else []
    document.build(story)
    return out.getvalue()


def euros(cents: int | None) -> str:
    """-123456 to `-1 234,56 €` with no-break spaces; None, which the till did not say, to a dash."""
    if cents is None:
        return "-"
    whole, rest = divmod(abs(cents), 100)
    grouped = f"{whole:,}".replace(",", "\xa0")
    return f"{'-' if cents < 0 else ''}{grouped},{rest:02d}\xa0€"


def _difference(cents: int | None) -> str:
    return f"+{euros(cents)}" if cents is not None and cents > 0 else euros(cents)


def _head(figures: ZFigures, piece: Piece | None) -> Table:
    siren = f", SIREN {figures.siren}" if figures.siren else ""
    named = figures.register_name != figures.register_id
    rows = [
        ("Commerce", f"{figures.shop_name}{siren}"),
        ("Caisse", f"{figures.register_name} ({figures.register_id})" if named else figures.register_id),
        ("Journée", french_day(figures.business_day)),
        ("Pièce comptable", piece.key if piece else "aucune : la journée n'a pas d'écriture de clôture"),
        *([("Écriture", f"{piece.label}, {euros(piece.amount_cents)}")] if piece else []),
        ("Tickets", f"{figures.orders}, dont avoirs {figures.refunds} ({euros(figures.refunds_cents)})"),
    ]
    return _table(rows, (0.2, 0.8), numbers_from=2, header=False)


def _rates(figures: ZFigures) -> Table:
    rows: list[tuple[str, ...]] = [("Taux", "Base HT", "TVA", "TTC")]
    rows += [
        (f"Total TVA {french_rate(rate.vat_rate_bp)}", *map(euros, (rate.net_cents, rate.vat_cents, rate.gross_cents)))
        for rate in figures.rates
    ]
    net = sum(rate.net_cents for rate in figures.rates)
    sums: list[tuple[str, ...]] = [
        ("Total des ventes", euros(net), euros(figures.sales_cents - net), euros(figures.sales_cents))
    ]
    if figures.other_cents:
        sums.append(("Hors ventes : bons, acomptes, pourboires, arrondis", "", "", euros(figures.other_cents)))
    sums.append(("Total TTC des tickets", "", "", euros(figures.orders_cents)))
    return _table([*rows, *sums], (0.49, 0.17, 0.17, 0.17), totals=len(sums))


def _methods(figures: ZFigures) -> Table:
    rows: list[tuple[str, ...]] = [("Mode de règlement", "Nombre", "Encaissé", "Attendu", "Compté", "Écart de caisse")]
    rows += [_method(method) for method in figures.methods if not method.on_account]
    paid = sum(method.payments for method in figures.methods if not method.on_account)
    # Differences of methods are not netted (PCG 1011-5), so their column has no total.
    total = ("Total des encaissements", str(paid), euros(figures.takings_cents), "", "", "")
    return _table([*rows, total], (0.28, 0.1, 0.155, 0.155, 0.155, 0.155), totals=1)


def _method(method: Method) -> tuple[str, ...]:
    amounts = [euros(cents) for cents in (method.amount_cents, method.expected_cents, method.counted_cents)]
    return (method.name, str(method.payments), *amounts, _difference(method.difference_cents))


def _on_account(figures: ZFigures) -> str:
    told = [f"{method.name} : {euros(method.amount_cents)}" for method in figures.methods if method.on_account]
    return f"Laissé au compte des clients, non encaissé : {', '.join(told)}." if told else ""


def _closings(figures: ZFigures) -> Table:
    rows: list[tuple[str, ...]] = [
        ("Clôture", "Heure", "Fonds d'ouverture", "Fonds de clôture", "Total du Z", "Cumul perpétuel")
    ]
    for one in figures.closings:
        amounts = (one.opening_float_cents, one.closing_float_cents, one.total_cents, one.perpetual_total_cents)
        rows.append((one.closing_id, f"{one.closed_at:%d/%m/%Y %H:%M}", *map(euros, amounts)))
    if not figures.closings:
        rows.append(("aucune ce jour", "", "", "", "", ""))
    return _table(rows, (0.15, 0.17, 0.18, 0.17, 0.16, 0.17))


def _movements(figures: ZFigures) -> Table | None:
    if not figures.movements:
        return None
    rows = [("Nature", "Nombre", "Montant")]
    rows += [(MOVEMENTS.get(one.kind, one.kind), str(one.count), euros(one.amount_cents)) for one in figures.movements]
    return _table(rows, (0.6, 0.15, 0.25))


def _hashes(figures: ZFigures) -> Table:
    rows = [("Données", "Lignes", "SHA-256")]
    rows += [(TABLES.get(one.table, one.table), str(one.rows), one.sha256) for one in figures.hashes]
    rows.append(("Ensemble", "", figures.sha256))
    return _table(rows, (0.24, 0.1, 0.66), totals=1, fixed=2)


def _how(figures: ZFigures) -> str:
    return (
        "Chaque empreinte porte sur les lignes de cette caisse et de cette journée telles que la caisse les a "
        "transmises, dans un ordre fixe ; l'ensemble sur les empreintes du tableau. La commande kash-pipeline z-report "
        f"--day {figures.business_day} --register {figures.register_id} refait ce document à partir des données "
        "conservées ; kash-pipeline trace mène de l'écriture aux tickets et aux réponses brutes de la caisse."
    )


def _heading(text: str, size: int) -> Table:
    return Table(
        [[text]],
        colWidths=[_WIDTH],
        style=[
            ("FONT", (0, 0), (-1, -1), _BOLD, size),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 8),
            ("BOTTOMPADDING", (0, 0), (-1, -1), size // 2),
        ],
    )


def _note(text: str) -> Table:
    lines = "\n".join(simpleSplit(text, _TEXT, 7, _WIDTH))
    return Table(
        [[lines]],
        colWidths=[_WIDTH],
        style=[("FONT", (0, 0), (-1, -1), _TEXT, 7, 8.5), ("LEFTPADDING", (0, 0), (-1, -1), 0)],
    )


def _table(
    rows: Sequence[tuple[str, ...]],
    shares: tuple[float, ...],
    *,
    numbers_from: int = 1,
    header: bool = True,
    totals: int = 0,
    fixed: int | None = None,
) -> Table:
    """Rows as a table over the whole width; columns from `numbers_from` stand to the right, `fixed` in Courier, the
    last `totals` rows in bold. Text too wide for its column goes on in the next line."""
    widths = [share * _WIDTH for share in shares]
    if fixed is not None:
        numbers_from = min(numbers_from, fixed)
    bold = {*([0] if header else []), *range(len(rows) - totals, len(rows))}
    cells = [
        [
            "\n".join(simpleSplit(text, _BOLD if at in bold else _TEXT, _SIZE, width - 2 * _PAD))
            if column != fixed
            else text
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        for at, row in enumerate(rows)
    ]
    style: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, -1), _TEXT, _SIZE, _SIZE + 2),
        ("ALIGN", (numbers_from, 0), (-1, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *((f"{side}PADDING", (0, 0), (-1, -1), _PAD) for side in ("LEFT", "RIGHT")),
        *((f"{side}PADDING", (0, 0), (-1, -1), 2) for side in ("TOP", "BOTTOM")),
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.lightgrey),
        *(("FONT", (0, at), (-1, at), _BOLD, _SIZE, _SIZE + 2) for at in sorted(bold)),
    ]
    if header:
        style.append(("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke))
    if fixed is not None:
        style += [("FONT", (fixed, 1), (fixed, -1), _FIXED, 7.5), ("ALIGN", (fixed, 0), (fixed, -1), "LEFT")]
    return Table(cells, colWidths=widths, repeatRows=1 if header else 0, style=style)
